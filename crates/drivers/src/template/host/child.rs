//! The process that renders: reads requests from standard input, writes answers to standard output,
//! one after the other, and ends with standard input.

use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{BODY, ERROR, MAX_MEMORY_BYTES, READY, Request, length};
use crate::template::{MAX_SOURCE_BYTES, Template, TemplateError};

/// Longest request: a source, a message of 1 MiB that is written twice, and what is escaped in it.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024 + MAX_SOURCE_BYTES;

/// Renders until standard input ends.
pub fn serve() -> io::Result<()> {
    // What is allocated beyond it fails, which ends the process; nothing is left of it on a disk.
    for (resource, most) in [(Resource::Data, MAX_MEMORY_BYTES), (Resource::Core, 0)] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    output.write_all(&[READY])?;
    output.flush()?;
    while let Some(request) = frame(&mut input)? {
        let answer = answer(&request);
        output.write_all(&length(&answer)?)?;
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

/// The next frame; `None`: there is none any more.
fn frame(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn answer(request: &[u8]) -> Vec<u8> {
    let (kind, bytes) = match made(request) {
        Ok(body) => (BODY, body),
        Err(error) => (ERROR, serde_json::to_vec(&error).unwrap_or_default()),
    };
    [&[kind], &bytes[..]].concat()
}

fn made(request: &[u8]) -> Result<Vec<u8>, TemplateError> {
    let request: Request = serde_json::from_slice(request)
        .map_err(|error| TemplateError::Somewhere(error.to_string()))?;
    let Some(variables) = &request.variables else {
        return Template::new(&request.source, request.form).map(|_| Vec::new());
    };
    let template = Template {
        source: request.source.into(),
        form: request.form,
    };
    Ok(template.render(variables)?.to_vec())
}
