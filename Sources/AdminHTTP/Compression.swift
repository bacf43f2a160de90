import CZlib

/// Returns the bytes in gzip format (RFC 1952); nil if zlib fails.
func gzip(_ bytes: [UInt8]) -> [UInt8]? {
    var stream = z_stream()
    guard reeve_gzip_init(&stream, 6) == Z_OK else { return nil }
    defer { deflateEnd(&stream) }
    var input = bytes
    var output = [UInt8](repeating: 0, count: Int(deflateBound(&stream, UInt(input.count))) + 32)
    let capacity = output.count
    let done = input.withUnsafeMutableBufferPointer { source in
        output.withUnsafeMutableBufferPointer { target in
            stream.next_in = source.baseAddress
            stream.avail_in = UInt32(source.count)
            stream.next_out = target.baseAddress
            stream.avail_out = UInt32(capacity)
            return deflate(&stream, Z_FINISH) == Z_STREAM_END
        }
    }
    guard done else { return nil }
    output.removeLast(Int(stream.avail_out))
    return output
}
