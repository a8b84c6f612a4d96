//! What a database says of an address: nested records and flat ones.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A place. What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Place {
    /// Two letters, such as `EU`.
    pub continent: Option<String>,
    /// ISO 3166-1, such as `DE`.
    pub country: Option<String>,
    /// Whether the country is in the European Union.
    pub european_union: Option<bool>,
    /// Name, such as `Bavaria`.
    pub region: Option<String>,
    /// ISO 3166-2 without country, such as `BY`.
    pub region_code: Option<String>,
    /// English name.
    pub city: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// IANA, such as `Europe/Berlin`.
    pub time_zone: Option<String>,
    /// Degrees.
    pub latitude: Option<f64>,
    /// Degrees.
    pub longitude: Option<f64>,
}

/// Something with a name: an object with names, or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Object {
        #[serde(default)]
        names: HashMap<String, String>,
        #[serde(alias = "iso_code")]
        code: Option<String>,
        is_in_european_union: Option<bool>,
    },
}

impl Named {
    fn name(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Object { names, .. } => names.get("en").cloned(),
        }
    }
    fn code(&self) -> Option<String> {
        match self {
            Self::Text(_) => None,
            Self::Object { code, .. } => code.clone(),
        }
    }
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
    time_zone: Option<String>,
}

/// All names that records have for the same things.
#[derive(Deserialize)]
struct Record {
    continent: Option<Named>,
    country: Option<Named>,
    registered_country: Option<Named>,
    country_code: Option<String>,
    city: Option<Named>,
    #[serde(default)]
    subdivisions: Vec<Named>,
    state1: Option<String>,
    postal: Option<Named>,
    postcode: Option<String>,
    location: Option<Location>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    timezone: Option<String>,
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let record = Record::deserialize(deserializer)?;
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let country = record.country.as_ref().or(record.registered_country.as_ref());
        let region = record.subdivisions.first();
        let (latitude, longitude, time_zone) = record
            .location
            .map_or((None, None, None), |at| (at.latitude, at.longitude, at.time_zone));
        Ok(Self {
            continent: record.continent.and_then(|named| named.code()),
            country: said(country.and_then(Named::code).or(record.country_code)),
            european_union: match country {
                Some(Named::Object { is_in_european_union, code: Some(_), .. }) => {
                    Some(is_in_european_union.unwrap_or(false))
                }
                _ => None,
            },
            region: said(region.and_then(Named::name).or(record.state1)),
            region_code: region.and_then(Named::code),
            city: said(record.city.and_then(|named| named.name())),
            postal_code: said(record.postal.and_then(|named| named.code()).or(record.postcode)),
            time_zone: said(time_zone.or(record.timezone)),
            latitude: latitude.or(record.latitude),
            longitude: longitude.or(record.longitude),
        })
    }
}

impl Place {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As rules see it.
    #[must_use]
    pub fn facts(&self) -> Map<String, Value> {
        let texts = [
            ("continent", &self.continent),
            ("country", &self.country),
            ("region", &self.region),
            ("region_code", &self.region_code),
            ("city", &self.city),
            ("postal_code", &self.postal_code),
            ("time_zone", &self.time_zone),
        ];
        self.map(texts, self.european_union.map(|is| ("european_union", is.into())))
    }

    /// As `context.edge` of an event, under the names that Segment's Edge SDK gives them.
    #[must_use]
    pub fn context(&self) -> Map<String, Value> {
        let texts = [
            ("continent", &self.continent),
            ("country", &self.country),
            ("region", &self.region),
            ("regionCode", &self.region_code),
            ("city", &self.city),
            ("postalCode", &self.postal_code),
            ("timezone", &self.time_zone),
        ];
        self.map(texts, None)
    }

    fn map(
        &self,
        texts: [(&str, &Option<String>); 7],
        more: Option<(&str, Value)>,
    ) -> Map<String, Value> {
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, Value::from(text.as_deref()?))));
        let numbers = [("latitude", self.latitude), ("longitude", self.longitude)];
        let numbers = numbers.into_iter().filter_map(|(name, at)| Some((name, Value::from(at?))));
        texts.chain(numbers).chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_kinds_of_records_are_read() {
        let maxmind = json!({
            "continent": {"code": "EU", "names": {"en": "Europe"}},
            "country": {"iso_code": "DE", "is_in_european_union": true, "names": {"en": "Germany"}},
            "subdivisions": [{"iso_code": "BY", "names": {"en": "Bavaria"}}],
            "city": {"geoname_id": 1, "names": {"de": "München", "en": "Munich"}},
            "postal": {"code": "80331"},
            "location": {"latitude": 48.1, "longitude": 11.5, "time_zone": "Europe/Berlin", "accuracy_radius": 5},
        });
        let place: Place = serde_json::from_value(maxmind).unwrap();
        assert_eq!(
            Value::Object(place.facts()),
            json!({"continent": "EU", "country": "DE", "european_union": true, "region": "Bavaria",
                "region_code": "BY", "city": "Munich", "postal_code": "80331",
                "time_zone": "Europe/Berlin", "latitude": 48.1, "longitude": 11.5})
        );
        assert_eq!(place.context()["regionCode"], "BY");
        let flat = json!({"city": "Bracknell", "country_code": "GB", "latitude": 51.4, "longitude": -0.7,
            "postcode": "RG12", "state1": "England", "state2": "", "timezone": "Europe/London"});
        let place: Place = serde_json::from_value(flat).unwrap();
        assert_eq!(
            (place.country.as_deref(), place.city.as_deref(), place.region.as_deref()),
            (Some("GB"), Some("Bracknell"), Some("England"))
        );
        let empty = json!({"city": "", "country_code": "", "postcode": ""});
        assert!(serde_json::from_value::<Place>(empty).unwrap().is_empty());
    }
}
