//! The suite as its users meet it. One story a module.
#![expect(clippy::unwrap_used, reason = "a panic in a test is a failure with a line number")]
#![expect(clippy::print_stdout, reason = "what was measured is shown")]

mod architecture;
mod broadcasts;
mod browser;
mod configuration;
mod curl_session;
mod deadlines;
mod faults_crowd;
mod faults_etcd;
mod faults_gateway;
mod faults_instance;
mod faults_overload;
mod faults_registry;
mod faults_twice;
mod faults_under_load;
mod misleading;
mod muster_up;
mod operator;
mod private_files;
mod readme;
mod second_copy;
mod selection;
mod service_down;
mod sidecar_rpc;
mod start_order;
mod three_hosts;
