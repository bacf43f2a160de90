import COpenSSL

/// Returns the HMAC with SHA-256 (RFC 2104): 32 bytes that cannot be computed without the key.
public func hmacSHA256(key: [UInt8], _ bytes: some Sequence<UInt8>) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 32)
    let bytes = Array(bytes)
    HMAC(EVP_sha256(), key, Int32(key.count), bytes, bytes.count, &result, nil)
    return result
}

/// Returns the MD5 digest of bytes (RFC 1321), for protocols that require it. It is not secure.
public func md5(_ bytes: [UInt8]) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 16)
    EVP_Digest(bytes, bytes.count, &result, nil, EVP_md5(), nil)
    return result
}
