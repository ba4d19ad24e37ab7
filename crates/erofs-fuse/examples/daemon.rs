//! The server or a keeper as a program of its own, for tests and measurements: `daemon server|keeper JSON`, with
//! inherited descriptors, or `daemon domain PATH` to make a domain for them.
#![forbid(unsafe_code)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("server"), Some(json)) => erofs_fuse::server::main(&json)?,
        (Some("keeper"), Some(json)) => erofs_store::keeper::main(&json)?,
        (Some("domain"), Some(path)) => drop(erofs_store::Domain::open_or_create(path.as_ref())?),
        _ => return Err("usage: daemon server|keeper JSON, daemon domain PATH".into()),
    }
    Ok(())
}
