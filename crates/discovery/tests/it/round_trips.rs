use discovery::{Address, Instance, InstanceKey, OVERRIDE_PREFIX, SERVICE_PREFIX, Ttl, heartbeat::FullHeartbeat};
use proptest::prelude::*;

use crate::any;

proptest! {
    #[test]
    fn every_instance_that_we_write_we_read_back(instance in any::instance()) {
        prop_assert_eq!(instance.check(), Ok(()));
        let written = instance.to_string();
        prop_assert!(written.bytes().all(|b| b.is_ascii_graphic()), "fit for a terminal: {}", written);
        prop_assert_eq!(Instance::parse(written.as_bytes()), Ok(instance), "{}", written);
    }

    #[test]
    fn every_instance_is_read_back_from_its_json(instance in any::instance()) {
        let json = serde_json::to_string(&instance).unwrap();
        prop_assert_eq!(serde_json::from_str::<Instance>(&json).unwrap(), instance);
    }

    #[test]
    fn every_instance_survives_a_heartbeat(instance in any::instance(), ttl_ms in 2000..=3_600_000_u64) {
        let nowhere = |ip: std::net::IpAddr| ip.to_canonical().is_unspecified() || ip.to_canonical().is_multicast();
        prop_assume!(!instance.address.host.ip().is_some_and(nowhere));
        let ttl = Ttl::from_millis(ttl_ms).unwrap();
        let json = serde_json::to_string(&FullHeartbeat::new(&instance, ttl)).unwrap();
        let heartbeat: FullHeartbeat = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(heartbeat.into_parts(), Ok((instance, ttl)));
    }

    #[test]
    fn every_address_is_read_back_and_its_id_says_the_same(address in any::address()) {
        let written = address.to_string();
        prop_assert_eq!(written.parse::<Address>(), Ok(address.clone()));
        if let Ok(id) = address.instance_id() {
            let (host, port) = id.rsplit_once(':').unwrap();
            prop_assert_eq!((host.to_owned(), port.to_owned()), (address.host.to_string(), address.port.to_string()));
        }
    }

    #[test]
    fn every_key_is_read_back_and_stays_below_its_prefix(key in any::key()) {
        let written = key.key();
        prop_assert_eq!(InstanceKey::parse(written.as_bytes()), Ok(key.clone()));
        prop_assert_eq!(InstanceKey::parse_override(key.override_key().as_bytes()), Ok(key.clone()));
        prop_assert!(written.starts_with(SERVICE_PREFIX) && key.override_key().starts_with(OVERRIDE_PREFIX));
        let depth = 1 + usize::from(key.instance.is_some());
        prop_assert_eq!(written.matches('/').count(), depth, "as deep as it should be, and no deeper");
    }
}
