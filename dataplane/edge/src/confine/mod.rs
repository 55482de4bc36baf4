pub mod command { pub fn run(_a: &[std::ffi::OsString]) -> std::process::ExitCode { std::process::ExitCode::SUCCESS } }
#[derive(Debug)] pub struct Achieved; impl Achieved { pub fn facts(&self) -> serde_json::Value { serde_json::json!({}) } }
pub fn edge(_p: &std::path::Path) -> std::io::Result<Achieved> { Ok(Achieved) }
