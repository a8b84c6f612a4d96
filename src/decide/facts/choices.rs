//! What consent platforms keep of a visitor's choices, as expressions see it. What is not said or can't be read is
//! absent.

use std::sync::Arc;

use cel::objects::Value;

use super::RequestFacts;
use super::request::{cookie, map};
use crate::decide::gpp::{self, Gpp};
use crate::decide::tcf;
use crate::decide::us_privacy::{self, UsPrivacy};

/// The choices in a request's cookies.
pub(super) struct Choices<'f>(pub(super) &'f dyn RequestFacts);

impl Choices<'_> {
    /// `tcf`: from the framework's own cookie, or from its section of a GPP string where there is none.
    pub(super) fn tcf(&self) -> Value {
        let text = self.text(tcf::COOKIE).or_else(|| self.gpp_section(gpp::TCF));
        let purposes = text.map(|text| tcf::purposes(&text)).unwrap_or_default();
        map([("purposes".to_owned(), numbers(purposes))])
    }

    /// `gpp`. Without the cookie there are no sections.
    pub(super) fn gpp(&self) -> Value {
        let text = self.text(gpp::COOKIE).unwrap_or_default();
        let read = Gpp::read(&text);
        let sections = numbers(read.iter().flat_map(Gpp::sections));
        let opted_out = read.as_ref().and_then(Gpp::opted_out).map(Value::Bool);
        let opted_out = opted_out.map(|is| ("opted_out".to_owned(), is));
        map([("sections".to_owned(), sections)].into_iter().chain(opted_out))
    }

    /// `us_privacy`: from its own cookie, or from its section of a GPP string where there is none.
    pub(super) fn us_privacy(&self) -> Value {
        let text = self.text(us_privacy::COOKIE).or_else(|| self.gpp_section(gpp::US_PRIVACY));
        let opt_out = text.and_then(|text| UsPrivacy::read(&text)?.opt_out_sale);
        map(opt_out.map(|is| ("opt_out_sale".to_owned(), Value::Bool(is))))
    }

    /// A cookie, which some platforms write percent-encoded.
    fn text(&self, name: &str) -> Option<String> {
        let text = cookie(self.0, name)?;
        Some(percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned())
    }

    fn gpp_section(&self, number: u16) -> Option<String> {
        let text = self.text(gpp::COOKIE)?;
        Gpp::read(&text)?.section(number).map(str::to_owned)
    }
}

fn numbers(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::List(Arc::new(numbers.into_iter().map(Value::Int).collect()))
}

#[cfg(test)]
mod tests {
    use crate::decide::{Expression, Facts, Outcome, RequestFacts};
    use crate::geo::Place;
    use crate::identity::Visitor;

    struct Asked(&'static str);
    impl RequestFacts for Asked {
        fn method(&self) -> &'static str {
            "GET"
        }
        fn path(&self) -> &'static str {
            "/"
        }
        fn query(&self) -> &'static str {
            ""
        }
        fn place(&self) -> Option<Place> {
            None
        }
        fn headers(&self) -> Vec<(String, String)> {
            vec![("cookie".into(), self.0.into())]
        }
    }

    const ALL_PURPOSES: &str =
        "CPokAsAPokAsABEACBENC7CgAP_AAH_AAAwIF5wAQF5gXnABAXmAAAAA.YAAAAAAAAAAA";

    #[test]
    fn choices_are_asked_and_what_is_not_said_is_absent() {
        let tcf_in_gpp: &'static str = format!("__gpp=DBABMA~{ALL_PURPOSES}").leak();
        let both: &'static str = format!("{tcf_in_gpp}; euconsent-v2=nonsense").leak();
        for (cookies, source, holds) in [
            ("__gpp=DBABLA~CVVVkkkkkpFY.YA", "gpp.opted_out && gpp.sections == [7]", true),
            ("__gpp=DBABLA~CAAAAAAAAABA.QA", "gpp.opted_out == false && 7 in gpp.sections", true),
            ("__gpp=DBABLA%7ECVVVkkkkkpFY", "gpp.opted_out == true", true),
            ("__gpp=nonsense", "gpp.opted_out == null && gpp.sections == []", true),
            ("", "gpp.opted_out == null && size(gpp.sections) == 0", true),
            ("", "gpp.opted_out == true", false),
            ("", "gpp.opted_out != false", true),
            ("", "has(gpp.opted_out) || has(us_privacy.opt_out_sale)", false),
            ("us_privacy=1YYN", "us_privacy.opt_out_sale == true", true),
            ("us_privacy=1YNN", "us_privacy.opt_out_sale == false", true),
            ("us_privacy=1---", "us_privacy.opt_out_sale == null", true),
            ("__gpp=DBABTA~1YYN", "us_privacy.opt_out_sale == true && gpp.opted_out == true", true),
            ("__gpp=DBABTA~1YYN; us_privacy=1YNN", "us_privacy.opt_out_sale == false", true),
            (tcf_in_gpp, "1 in tcf.purposes && 10 in tcf.purposes", true),
            (both, "size(tcf.purposes) == 0", true),
        ] {
            let (visitor, asked) = (Visitor::default(), Asked(cookies));
            let facts = Facts::new(&visitor, None, &asked).with_null_for_absent();
            let outcome = Expression::compile_for_null(source).unwrap().test(&facts);
            let expected = if holds { Outcome::True } else { Outcome::False };
            assert_eq!(outcome, expected, "{cookies}: {source}");
        }
        // Elsewhere what is absent makes a condition false.
        let (visitor, asked) = (Visitor::default(), Asked(""));
        let facts = Facts::new(&visitor, None, &asked);
        let test = |source| Expression::compile(source).unwrap().test(&facts);
        assert_eq!(
            (test("gpp.opted_out"), test("!gpp.opted_out")),
            (Outcome::False, Outcome::False)
        );
    }

    #[test]
    fn names_and_kinds_of_choices_are_checked() {
        for (source, message) in [
            ("gpp.opt_out", "unknown part of `gpp` `opt_out`; did you mean `opted_out`?"),
            ("gpp.opted_out == '1'", "true or false is never equal to a text"),
            ("us_privacy.opt_out_sale == 'Y'", "true or false is never equal to a text"),
            ("gpp.sections == 7", "a list is never equal to a number"),
            ("us_privacy == '1YYN'", "a map is never equal to a text"),
            ("gp.opted_out", "unknown name `gp`; did you mean `gpp`?"),
        ] {
            let wrong = Expression::compile(source).unwrap_err();
            assert!(wrong.message.contains(message), "{source}: {}", wrong.message);
        }
    }
}
