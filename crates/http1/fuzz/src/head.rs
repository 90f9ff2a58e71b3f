//! Heads: read in one way, by whoever reads them.

use http1::{
    Fields, Framing, Limits, Method, Refusal, Request, Response, Scan, Target, Version, parse_request, parse_response,
    write,
};

/// What a head says, as values that can be kept and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Method and target, or status and reason.
    pub start: Vec<Vec<u8>>,
    /// Name and value of each line.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body's.
    pub framing: Framing,
    /// The host of a request.
    pub host: Option<Vec<u8>>,
    /// What is switched to.
    pub upgrade: Option<Vec<u8>>,
    /// Whether the connection can be used again.
    pub keep_alive: bool,
}

impl Head {
    fn of_request(request: &Request<'_>) -> Self {
        Self {
            start: [&[request.method.as_bytes()][..], &target_parts(request)].concat().iter().map(own).collect(),
            fields: own_fields(&request.fields),
            framing: request.framing,
            host: request.host.as_ref().map(own),
            upgrade: request.upgrade.as_ref().map(own),
            keep_alive: request.keep_alive,
        }
    }

    fn of_response(response: &Response<'_>) -> Self {
        Self {
            start: vec![response.status.to_string().into_bytes(), own(&response.reason)],
            fields: own_fields(&response.fields),
            framing: response.framing,
            host: None,
            upgrade: response.upgrade.as_ref().map(own),
            keep_alive: response.keep_alive,
        }
    }
}

fn own(bytes: &&[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn own_fields(fields: &Fields<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// The target in the parts of which it is written again.
fn target_parts<'a>(request: &Request<'a>) -> Vec<&'a [u8]> {
    match request.target {
        Target::Origin(target) => vec![target],
        Target::Absolute { authority, .. } if request.method == Method::Connect => vec![authority],
        Target::Absolute { authority, path_and_query } => vec![b"http://", authority, path_and_query],
        Target::Asterisk => vec![b"*"],
    }
}

/// Reads the front of `input` as a request: `None` while it is incomplete.
///
/// # Panics
///
/// If something does not hold that must.
pub fn request(input: &[u8]) -> Option<Result<Head, Refusal>> {
    let scan = scan(input)?;
    let head = scan.head(input).expect("it was read");
    let request = match head.request(&Limits::default()) {
        Ok(request) => request,
        Err(refusal) => return Some(Err(refusal)),
    };
    let head = head.bytes();
    fields_are_clean(&request.fields);
    assert_ne!(request.framing, Framing::UntilClose, "a request's body has an end of its own");
    assert!(request.host.is_some() || request.version == Version::Http10);
    httparse_reads_the_same_request(head, &request);
    let seen = Head::of_request(&request);
    if request.version == Version::Http11 {
        let mut written = Vec::new();
        write::request_line(&mut written, request.method.as_bytes(), &target_parts(&request));
        write_fields(&mut written, &request.fields);
        let mut scan = Scan::default();
        let limits = Limits { head_max_bytes: usize::MAX, target_max_bytes: usize::MAX, ..Limits::default() };
        let again = parse_request(&written, &mut scan, &limits).expect("what is written is read");
        assert_eq!(Head::of_request(&again), seen);
    }
    Some(Ok(seen))
}

/// Reads the front of `input` as a response: to a GET, or, if a byte `H` or `C` is in front of it, to a HEAD or
/// CONNECT.
///
/// # Panics
///
/// If something does not hold that must.
pub fn response(input: &[u8]) -> Option<Result<Head, Refusal>> {
    let (method, input) = match input {
        [b'C', rest @ ..] => (Method::Connect, rest),
        [b'H', rest @ ..] if !rest.starts_with(b"TTP") => (Method::Head, rest),
        _ => (Method::Get, input),
    };
    let scan = scan(input)?;
    let head = scan.head(input).expect("it was read");
    let response = match head.response(&Limits::default(), &method) {
        Ok(response) => response,
        Err(refusal) => return Some(Err(refusal)),
    };
    let head = head.bytes();
    fields_are_clean(&response.fields);
    assert!((100..1000).contains(&response.status));
    assert!(!response.keep_alive || response.framing != Framing::UntilClose);
    httparse_reads_the_same_response(head, &response);
    let mut written = Vec::new();
    write::status_line(&mut written, response.status, response.reason);
    write_fields(&mut written, &response.fields);
    let mut scan = Scan::default();
    let limits = Limits { head_max_bytes: usize::MAX, ..Limits::default() };
    let again = parse_response(&written, &mut scan, &limits, &method).expect("what is written is read");
    let seen = Head::of_response(&response);
    // Only what HTTP/1.1 keeps open by default may differ from an HTTP/1.0 original.
    let keep_alive = if response.version == Version::Http11 { seen.keep_alive } else { again.keep_alive };
    assert_eq!(Head::of_response(&again), Head { keep_alive, ..seen.clone() });
    Some(Ok(seen))
}

/// What is read is the same whether the bytes come at once or drip; `None` while the head is incomplete.
fn scan(input: &[u8]) -> Option<Scan> {
    let (mut at_once, mut dripping, limits) = (Scan::default(), Scan::default(), Limits::default());
    let end = at_once.read(input, &limits);
    assert_eq!(end, (0..=input.len()).find_map(|len| dripping.read(&input[..len], &limits)));
    let read = |scan: &Scan| {
        let head = scan.head(input).expect("it was read");
        let fields = |fields: &Fields<'_>| own_fields(fields);
        (head.request(&limits).map(|request| fields(&request.fields)), head.bytes().len())
    };
    end.map(|_| assert_eq!(read(&at_once), read(&dripping)))?;
    Some(at_once)
}

fn fields_are_clean(fields: &Fields<'_>) {
    for field in fields {
        assert!(!field.name.is_empty() && field.name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':'));
        let text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        assert!(field.value.iter().all(text), "no control byte passes");
        let ows = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        assert!(!ows(field.value.first()) && !ows(field.value.last()), "values are trimmed");
    }
}

/// Copied together where they can be, they are what they are one by one.
fn write_fields(out: &mut Vec<u8>, fields: &Fields<'_>) {
    let begins_at = out.len();
    fields.write(out, |_| true);
    let mut one_by_one = Vec::new();
    for field in fields.iter().filter(|field| !fields.is_named_by_connection(field.name)) {
        write::field(&mut one_by_one, field.name, field.value);
    }
    assert_eq!(out[begins_at..], one_by_one);
    out.truncate(begins_at);
    for field in fields {
        write::field(out, field.name, field.value);
    }
    write::end(out);
}

fn httparse_reads_the_same_request(head: &[u8], ours: &Request<'_>) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Request::new(&mut headers);
    assert_eq!(theirs.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(theirs.method.map(str::as_bytes), Some(ours.method.as_bytes()));
    let target = theirs.path.expect("a complete request has a target").as_bytes();
    match ours.target {
        Target::Origin(ours) => assert_eq!(target, ours),
        Target::Asterisk => assert_eq!(target, b"*"),
        Target::Absolute { authority, path_and_query } => {
            let ours = [authority, path_and_query].concat();
            assert!(target.ends_with(&ours) || target.ends_with(authority), "it ends with host, path and query");
        }
    }
    assert_eq!(theirs.version, Some(u8::from(ours.version == Version::Http11)));
    httparse_reads_the_same_fields(theirs.headers, &ours.fields);
}

fn httparse_reads_the_same_response(head: &[u8], ours: &Response<'_>) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Response::new(&mut headers);
    assert_eq!(theirs.parse(head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(theirs.code, Some(ours.status));
    // It keeps no reason that is not ASCII.
    let reason = if ours.reason.is_ascii() { ours.reason } else { b"" };
    assert_eq!(theirs.reason.map(str::as_bytes), Some(reason));
    assert_eq!(theirs.version, Some(u8::from(ours.version == Version::Http11)));
    httparse_reads_the_same_fields(theirs.headers, &ours.fields);
}

fn httparse_reads_the_same_fields(theirs: &[httparse::Header<'_>], ours: &Fields<'_>) {
    assert_eq!(theirs.len(), ours.len());
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!((theirs.name.as_bytes(), theirs.value), (ours.name, ours.value));
    }
}
