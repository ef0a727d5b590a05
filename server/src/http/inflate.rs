//! Engines are asked for plain answers. One that compresses all the same is unpacked here, since the
//! client may not have asked for it either. spec: proxy §4

use super::engine::EngineError;
use super::relay::MAX_BUFFERED;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Read;

/// A body without its compression; `Content-Encoding` goes with it. An encoding that is not known
/// here stays, named as it is.
///
/// # Errors
/// [`EngineError`] when the body does not unpack, or to more than a buffered answer may hold.
pub fn plain(headers: &mut HeaderMap, body: Bytes) -> Result<Bytes, EngineError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(body) };
    let encoding = encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    let unpacked = match encoding.as_str() {
        "gzip" | "x-gzip" => unpack(MultiGzDecoder::new(&*body))?,
        // RFC 9110 means zlib; some servers send the bare stream.
        "deflate" => match unpack(ZlibDecoder::new(&*body)) {
            Ok(unpacked) => unpacked,
            Err(_) => unpack(DeflateDecoder::new(&*body))?,
        },
        "" | "identity" => body,
        _ => return Ok(body),
    };
    headers.remove(header::CONTENT_ENCODING);
    Ok(unpacked)
}

fn unpack(packed: impl Read) -> Result<Bytes, EngineError> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(MAX_BUFFERED).unwrap_or(u64::MAX);
    packed
        .take(most.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|error| EngineError::Broken(format!("compressed answer: {error}")))?;
    if unpacked.len() > MAX_BUFFERED {
        return Err(EngineError::TooLarge(MAX_BUFFERED));
    }
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    #[test]
    fn gzip_is_unpacked_and_no_longer_named() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(b"{\"id\":1}").unwrap();
        let packed = Bytes::from(packer.finish().unwrap());
        let headers = |encoding: &'static str| {
            HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(encoding))])
        };
        let mut gzip = headers("GZip");
        assert_eq!(plain(&mut gzip, packed.clone()).unwrap(), "{\"id\":1}");
        assert!(gzip.is_empty());
        let mut unknown = headers("br");
        assert_eq!(plain(&mut unknown, packed.clone()).unwrap(), packed);
        assert_eq!(unknown.len(), 1);
        assert!(plain(&mut headers("gzip"), packed.slice(..10)).is_err());
        assert!(plain(&mut headers("deflate"), Bytes::from_static(b"\xff\xff")).is_err());
    }
}
