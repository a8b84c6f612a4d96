//! RudderStack: so far its Activation API.

mod activation;

pub use activation::ActivationApi;
