import Foundation

/// Where a server listens.
public enum ListenAddress: Sendable, Equatable, CustomStringConvertible {
    case tcp(host: String, port: UInt16)
    case unix(path: String)

    /// Reads `host:port`, `[host]:port` or `unix:/path`.
    public init?(_ text: String) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst("unix:".count))
            guard path.hasPrefix("/") else { return nil }
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

    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// A socket that listens there.
    ///
    /// - Throws: `ServerError`.
    func listen() throws -> Int32 {
        switch self {
        case .tcp(let host, let port): try listenTCP(host, port)
        case .unix(let path): try listenUnix(path)
        }
    }

    private func listenTCP(_ host: String, _ port: UInt16) throws -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &found)
        guard code == 0, let address = found?.pointee else {
            throw ServerError(self, String(cString: gai_strerror(code)))
        }
        defer { freeaddrinfo(found) }
        let descriptor = socket(address.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ServerError(self, String(cString: strerror(errno))) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        return try finish(descriptor, bind(descriptor, address.ai_addr, address.ai_addrlen))
    }

    private func listenUnix(_ path: String) throws -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < capacity else {
            throw ServerError(self, "the path is longer than \(capacity - 1) bytes")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ServerError(self, String(cString: strerror(errno))) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return try withUnsafePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                // A socket that nobody listens on is left over from one who died.
                let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
                defer { close(probe) }
                if connect(probe, generic, size) == 0 {
                    close(descriptor)
                    throw ServerError(self, "another process listens there")
                }
                unlink(path)
                let mask = umask(0o077)
                defer { umask(mask) }
                return try finish(descriptor, bind(descriptor, generic, size))
            }
        }
    }

    private func finish(_ descriptor: Int32, _ bound: Int32) throws -> Int32 {
        guard bound == 0, Foundation.listen(descriptor, 128) == 0 else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw ServerError(self, reason)
        }
        return descriptor
    }

    /// The port that was given to a socket that asked for any.
    static func port(of descriptor: Int32) -> UInt16? {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic -> UInt16? in
                guard getsockname(descriptor, generic, &size) == 0 else { return nil }
                switch Int32(generic.pointee.sa_family) {
                case AF_INET:
                    return UnsafeRawPointer(generic).loadUnaligned(as: sockaddr_in.self).sin_port.byteSwapped
                case AF_INET6:
                    return UnsafeRawPointer(generic).loadUnaligned(as: sockaddr_in6.self).sin6_port.byteSwapped
                default: return nil
                }
            }
        }
    }
}

/// A server cannot listen.
public struct ServerError: Error, CustomStringConvertible {
    public let description: String

    init(_ address: ListenAddress, _ reason: String) {
        description = "cannot listen on \(address): \(reason.lowercased())"
    }
}
