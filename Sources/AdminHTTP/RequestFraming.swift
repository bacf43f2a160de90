import CMicrohttpd
import Foundation

/// Refuses request heads that a proxy in front of the server may read differently (request smuggling; RFC 9112, section
/// 11.2).
enum RequestFraming {
    typealias Header = (name: String, value: String)

    /// Returns the answer that refuses an ambiguous head; nil if the head is not ambiguous.
    ///
    /// - Parameter headers: all headers, in order.
    static func refusal(_ headers: [Header]) -> AdminResponse? {
        func values(_ name: String) -> [String] { headers.filter { $0.name.lowercased() == name }.map(\.value) }
        // A space in a name is refused, too: some servers ignore the header 'Content-Length :', and others obey it.
        guard headers.allSatisfy({ !$0.name.isEmpty && $0.name.utf8.allSatisfy(isOfToken) }) else {
            return .problem(400, "Bad Request", detail: "a header name is not valid")
        }
        for name in ["Host", "Origin", "Content-Length", "Authorization"] where values(name.lowercased()).count > 1 {
            return .problem(400, "Bad Request", detail: "there is more than one \(name) header")
        }
        let codings = values("transfer-encoding")
        if !codings.isEmpty, !values("content-length").isEmpty {
            return .problem(400, "Bad Request", detail: "the request has both Content-Length and Transfer-Encoding")
        }
        if codings.count > 1 || codings.contains(where: { $0.lowercased() != "chunked" }) {
            return .problem(501, "Not Implemented", detail: "the only supported transfer coding is chunked")
        }
        return nil
    }

    /// Whether a byte may be part of a token (RFC 9110, section 5.6.2).
    private static func isOfToken(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// Whether the strings that libmicrohttpd returns contain every byte of the head, apart from separators.
    ///
    /// libmicrohttpd returns C strings that point into the head as it was received. A NUL byte therefore truncates a
    /// value (`Host: localhost\0.evil` becomes `localhost`), and folded lines are lost. This function checks that there
    /// are only separators between the target, the version, the names and the values.
    ///
    /// - Parameters:
    ///   - targetEnd: the address of the byte after the target.
    ///   - end: the address of the byte after the head.
    static func isWhole(
        targetEnd: UInt, version: UnsafePointer<CChar>, fields: [(name: UInt, value: UInt)], end: UInt
    ) -> Bool {
        guard reeve_mhd_accepts_nul() != 0 else { return true }
        var cursor = UInt(bitPattern: version)
        guard cursor == targetEnd + 1 else { return false }

        func byte() -> UInt8? {
            guard cursor < end else { return nil }
            return UnsafePointer<UInt8>(bitPattern: cursor)?.pointee
        }
        func passText() { while let byte = byte(), byte != 0 { cursor += 1 } }
        // A line end is CR LF or a bare LF. libmicrohttpd has overwritten it with NUL bytes.
        func passLineEnd() { for _ in 0..<2 where byte() == 0 { cursor += 1 } }

        passText()
        passLineEnd()
        for field in fields {
            guard cursor == field.name else { return false }
            passText()
            // The colon is also overwritten.
            cursor += 1
            while byte() == UInt8(ascii: " ") || byte() == UInt8(ascii: "\t") { cursor += 1 }
            guard cursor == field.value else { return false }
            passText()
            passLineEnd()
        }
        // This passes the empty line after the headers. If the lines end with bare LFs, the previous `passLineEnd` has
        // already passed the empty line.
        passLineEnd()
        return cursor == end
    }
}
