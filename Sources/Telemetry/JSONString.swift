/// Returns `text` as a JSON string with its quotes (RFC 8259, section 7). Works on the UTF-8 bytes.
///
/// Escapes the characters that must be escaped: the quote, the backslash and U+0000 to U+001F. Also escapes characters
/// that can do harm in a log, a terminal or a script: U+007F to U+009F, which control terminals, and U+2028 and U+2029,
/// which some readers treat as line ends. All other characters are unchanged. The result is UTF-8 on one line.
public func jsonString(_ text: String) -> String {
    var text = text
    return text.withUTF8 { JSONEscaper.escaped($0) }
}

/// Returns `bytes` as a JSON string with its quotes. Sequences that are not UTF-8 become U+FFFD.
public func jsonString(bytes: some Collection<UInt8>) -> String {
    jsonString(String(decoding: bytes, as: UTF8.self))
}

private enum JSONEscaper {
    private static let hex = Array("0123456789abcdef".utf8)

    static func escaped(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
        let quote = UInt8(ascii: "\"")
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count + 2)
        result.append(quote)
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            index += 1
            switch byte {
            case quote, UInt8(ascii: "\\"): result += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\n"): result += "\\n".utf8
            case UInt8(ascii: "\r"): result += "\\r".utf8
            case UInt8(ascii: "\t"): result += "\\t".utf8
            case ..<0x20, 0x7F: append(UInt16(byte), to: &result)
            // These bytes encode U+0080 to U+009F. The bytes of a String are complete sequences, so there is a next
            // byte.
            case 0xC2 where bytes[index] < 0xA0:
                append(UInt16(bytes[index]), to: &result)
                index += 1
            // These bytes encode U+2028 and U+2029.
            case 0xE2 where bytes[index] == 0x80 && (0xA8...0xA9).contains(bytes[index + 1]):
                append(0x2000 | UInt16(bytes[index + 1] & 0x7F), to: &result)
                index += 2
            default: result.append(byte)
            }
        }
        result.append(quote)
        return String(decoding: result, as: UTF8.self)
    }

    private static func append(_ unit: UInt16, to result: inout [UInt8]) {
        result += "\\u".utf8
        for shift in [12, 8, 4, 0] as [UInt16] { result.append(hex[Int(unit >> shift & 0xF)]) }
    }
}
