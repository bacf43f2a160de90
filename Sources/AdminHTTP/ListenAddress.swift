import Foundation
import Reporting

/// The address that a server listens on.
public enum ListenAddress: Sendable, Equatable, CustomStringConvertible {
    case tcp(host: String, port: UInt16)
    case unix(path: String)

    /// Parses `host:port`, `[host]:port` or `unix:/path`.
    public init?(_ text: String) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst("unix:".count))
            guard path.hasPrefix("/"), !path.utf8.contains(0) else { return nil }
            self = .unix(path: path)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") || host.isEmpty {
            return nil
        }
        self = .tcp(host: host, port: port)
    }

    /// Whether other machines can reach the address, as far as this is known without resolving a name.
    public var isRemoteLiteral: Bool {
        guard case .tcp(let host, _) = self else { return false }
        var (four, six) = (in_addr(), in6_addr())
        if inet_pton(AF_INET, host, &four) == 1 { return UInt32(bigEndian: four.s_addr) >> 24 != 127 }
        guard inet_pton(AF_INET6, host, &six) == 1 else { return false }
        return withUnsafeBytes(of: six) { Array($0) } != [UInt8](repeating: 0, count: 15) + [1]
    }

    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}

/// Thrown if a server cannot listen on its address.
public struct ServerError: Error, CustomStringConvertible {
    public let description: String
    public let hint: String
    /// Whether the server refused the address because the configuration does not allow it. If false, the server tried
    /// to listen and failed.
    public let isRefusal: Bool

    public init(
        _ address: ListenAddress, _ reason: String, hint: String = "set http.listen to another address, or to 'off'",
        isRefusal: Bool = false
    ) {
        description = "cannot listen on \(address): \(reason)"
        self.hint = hint
        self.isRefusal = isRefusal
    }
}

extension ServerError: ReportedError {
    public static let codes = [ErrorCode("listen", [.failed, .usage], "The HTTP server cannot listen on its address.")]

    public var report: ErrorReport {
        ErrorReport(description, code: "listen", hint: hint, exitCode: isRefusal ? .usage : .failed)
    }
}
