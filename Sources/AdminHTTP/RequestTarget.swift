/// The parsed target of a request. Pure: no I/O.
struct RequestTarget {
    enum Limits {
        static let bytes = 8192
        static let parameters = 200
    }

    /// The path as the client sent it, without the query.
    let path: String
    /// The segments of the path, each decoded; none for `/`.
    let segments: [String]
    let query: [String: String]

    /// - Throws: `Refusal`, also for a path that other programs may read differently: with an empty segment, `.`, `..`,
    ///   an encoded slash or a control character.
    init(_ target: [UInt8]) throws(Refusal) {
        guard target.count <= Limits.bytes else {
            throw Self.tooLong("the URL is longer than \(Limits.bytes) bytes")
        }
        guard target.first == UInt8(ascii: "/"), target.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw .badRequest("the request target is not a valid path")
        }
        let mark = target.firstIndex(of: UInt8(ascii: "?")) ?? target.endIndex
        path = String(decoding: target[..<mark], as: UTF8.self)
        segments = try Self.segments(target[..<mark])
        query = try Self.query(target[mark...].dropFirst())
    }

    private static func tooLong(_ detail: String) -> Refusal {
        Refusal(response: .problem(414, "URI Too Long", detail: detail))
    }

    private static func segments(_ path: ArraySlice<UInt8>) throws(Refusal) -> [String] {
        if path.count == 1 { return [] }
        var segments: [String] = []
        for part in path.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            guard let segment = decoded(part), !["", ".", ".."].contains(segment),
                segment.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "/") })
            else {
                throw .badRequest(
                    "a path segment is empty, '.' or '..', contains '/', or is not valid percent-encoded UTF-8")
            }
            segments.append(segment)
        }
        return segments
    }

    private static func query(_ text: ArraySlice<UInt8>) throws(Refusal) -> [String: String] {
        let pairs = text.split(separator: UInt8(ascii: "&"), maxSplits: Limits.parameters)
        guard pairs.count <= Limits.parameters else {
            throw tooLong("the URL has more than \(Limits.parameters) parameters")
        }
        var query: [String: String] = [:]
        for pair in pairs {
            let equals = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
            guard let key = decoded(spaced(pair[..<equals])), let value = decoded(spaced(pair[equals...].dropFirst())),
                !key.utf8.contains(0), !value.utf8.contains(0)
            else { throw .badRequest("a query parameter is not valid percent-encoded UTF-8") }
            if query[key] == nil { query[key] = value }
        }
        return query
    }

    private static func spaced(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        text.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 }[...]
    }

    /// Decodes percent-encoded text; nil if the text is not valid percent-encoded UTF-8.
    private static func decoded(_ text: ArraySlice<UInt8>) -> String? {
        var bytes: [UInt8] = []
        var rest = text
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else {
                    return nil
                }
                bytes.append(high << 4 | low)
            } else {
                bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
