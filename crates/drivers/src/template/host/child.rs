//! The process that renders: reads requests from standard input, writes answers to standard output,
//! one after the other, and ends with standard input.

use std::io;

use dovecast_host_process::child::{announce, bound_memory, read_frame, write_frame};

use super::{BODY, ERROR, MAX_MEMORY_BYTES, Request};
use crate::template::{MAX_SOURCE_BYTES, Template, TemplateError};

/// Longest request: a source, a message of 1 MiB that is written twice, and what is escaped in it.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024 + MAX_SOURCE_BYTES;

/// Renders until standard input ends.
pub fn serve() -> io::Result<()> {
    bound_memory(MAX_MEMORY_BYTES)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    announce(&mut output)?;
    while let Some(request) = read_frame(&mut input, MAX_REQUEST_BYTES)? {
        write_frame(&mut output, &answer(&request))?;
    }
    Ok(())
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
        is_ours: false,
        source: request.source.into(),
        form: request.form,
    };
    Ok(template.render(variables)?.to_vec())
}
