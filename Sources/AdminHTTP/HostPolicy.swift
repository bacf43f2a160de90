import Foundation

/// Checks the host names of requests. This prevents DNS rebinding, in which a page in a browser reaches the server
/// under a name of the attacker's domain that resolves to this machine. Pure: no I/O.
struct HostPolicy: Sendable {
    /// The accepted names, in lower case and without a dot at the end.
    private let names: Set<String>
    /// Whether the host may be any IP address, not only a loopback address. DNS rebinding requires a name, so addresses
    /// are safe.
    private let acceptsAddresses: Bool

    /// - Parameters:
    ///   - isRemote: whether other machines may reach the server.
    ///   - machine: this machine's name.
    ///   - more: names that the configuration adds.
    init(_ address: ListenAddress, isRemote: Bool, machine: String, more: [String]) {
        var names = more + ["localhost"]
        if case .tcp(let host, _) = address { names.append(host) }
        if isRemote { names.append(machine) }
        self.names = Set(names.map(Self.folded))
        acceptsAddresses = isRemote
    }

    /// Returns the answer to a request that is refused; nil if the request is allowed.
    ///
    /// - Parameters:
    ///   - version: the version in the request, for instance `HTTP/1.1`.
    ///   - headers: all headers, in order. A request with more than one Host or Origin was already refused.
    func refusal(_ version: String, _ headers: [(name: String, value: String)]) -> AdminResponse? {
        func value(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }
        let host = value("host")
        if let host {
            guard let authority = Authority(host) else {
                return .problem(400, "Bad Request", detail: "the Host header is not valid")
            }
            guard accepts(authority.host) else {
                return .problem(
                    421, "Misdirected Request",
                    detail:
                        "requests for the host '\(authority.host)' are refused; the setting http.hosts can allow it")
            }
        } else if version != "HTTP/1.0" {
            // HTTP/1.0 clients may omit Host. Browsers always send Host and never use HTTP/1.0, so a request without
            // Host is not from a web page.
            return .problem(400, "Bad Request", detail: "the Host header is missing")
        }
        if let origin = value("origin"), !isSame(origin, host) {
            return .problem(403, "Forbidden", detail: "the request comes from a page of another origin")
        }
        return nil
    }

    func accepts(_ host: String) -> Bool {
        let host = Self.folded(host)
        if let address = PeerAddress(literal: host) { return acceptsAddresses || address.isLoopback }
        // Every name below localhost is loopback too (RFC 6761, section 6.3).
        return names.contains(host) || host.hasSuffix(".localhost")
    }

    private func isSame(_ origin: String, _ host: String?) -> Bool {
        guard let host, let authority = Authority(host), let separator = origin.range(of: "://") else { return false }
        let port: UInt16
        switch origin[..<separator.lowerBound].lowercased() {
        case "http": port = 80
        case "https": port = 443
        default: return false
        }
        guard let from = Authority(String(origin[separator.upperBound...])) else { return false }
        return Self.folded(from.host) == Self.folded(authority.host) && (from.port ?? port) == (authority.port ?? port)
    }

    private static func folded(_ name: String) -> String {
        let lower = name.lowercased()
        return lower.utf8.last == UInt8(ascii: ".") ? String(lower.dropLast()) : lower
    }
}

/// `host`, `host:port` or `[address]:port` (RFC 9110, section 7.2).
private struct Authority {
    let host: String
    let port: UInt16?

    init?(_ text: String) {
        let bytes = Array(text.utf8)
        var rest = bytes[...]
        let host: ArraySlice<UInt8>
        if rest.first == UInt8(ascii: "[") {
            guard let end = rest.firstIndex(of: UInt8(ascii: "]")) else { return nil }
            host = rest[1..<end]
            rest = rest[(end + 1)...]
            guard PeerAddress(literal: String(decoding: host, as: UTF8.self)) != nil else { return nil }
        } else {
            let end = rest.firstIndex(of: UInt8(ascii: ":")) ?? rest.endIndex
            host = rest[..<end]
            rest = rest[end...]
            guard !host.isEmpty, host.allSatisfy(Self.isOfName) else { return nil }
        }
        self.host = String(decoding: host, as: UTF8.self)
        if rest.isEmpty {
            port = nil
        } else {
            let digits = rest.dropFirst()
            guard rest.first == UInt8(ascii: ":"), digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
            guard !digits.isEmpty else {
                port = nil
                return
            }
            guard let number = UInt16(String(decoding: digits, as: UTF8.self)) else { return nil }
            port = number
        }
    }

    private static func isOfName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
