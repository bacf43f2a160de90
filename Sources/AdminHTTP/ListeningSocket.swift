import Foundation

/// A listening socket, and the file of a Unix socket.
struct ListeningSocket: Sendable {
    let descriptor: Int32
    /// The address of the socket. If port 0 was requested, this contains the port that the system chose.
    let address: ListenAddress
    let file: UnixSocketFile?

    /// - Parameter isRemoteAllowed: whether the socket may listen on addresses that other machines can reach.
    /// - Throws: `ServerError`.
    init(_ address: ListenAddress, isRemoteAllowed: Bool) throws {
        switch address {
        case .unix(let path):
            let file = try UnixSocketFile(path)
            descriptor = file.descriptor
            self.file = file
            self.address = address
        case .tcp(let host, let port):
            descriptor = try Self.listen(host, port, isRemoteAllowed)
            file = nil
            self.address = .tcp(host: host, port: Self.port(of: descriptor) ?? port)
        }
    }

    private static func listen(_ host: String, _ port: UInt16, _ isRemoteAllowed: Bool) throws -> Int32 {
        let asked = ListenAddress.tcp(host: host, port: port)
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &found)
        guard code == 0, let found else { throw ServerError(asked, String(cString: gai_strerror(code)).lowercased()) }
        defer { freeaddrinfo(found) }
        let all = sequence(first: found) { $0.pointee.ai_next }
        if !isRemoteAllowed {
            // Check all addresses of the name, although the socket listens on only one of them. At a later start, the
            // socket could listen on another of these addresses, and that address could be reachable from other
            // machines.
            for one in all {
                guard let address = PeerAddress(one.pointee.ai_addr), !address.isLoopback else { continue }
                throw ServerError(
                    asked, "\(address) is reachable from other machines, and requests are not authenticated",
                    hint: "listen on 127.0.0.1 or a socket (unix:/path), or set http.remote: true", isRefusal: true)
            }
        }
        var failure = EADDRNOTAVAIL
        for one in all {
            let descriptor = bound(one.pointee)
            if descriptor >= 0 { return descriptor }
            failure = -descriptor
            // Try the next address if, for instance, the machine lacks IPv6, but do not skip an address that is in use.
            guard [EAFNOSUPPORT, EADDRNOTAVAIL].contains(failure) else { break }
        }
        throw ServerError(asked, reason(failure))
    }

    /// Opens a socket that listens on an address.
    ///
    /// - Returns: the descriptor of a listening socket, or a negated errno.
    private static func bound(_ address: addrinfo) -> Int32 {
        let descriptor = socket(address.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return -errno }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        if bind(descriptor, address.ai_addr, address.ai_addrlen) == 0, Foundation.listen(descriptor, backlog) == 0 {
            return descriptor
        }
        defer { close(descriptor) }
        return -errno
    }

    static let backlog: Int32 = 512

    static func reason(_ number: Int32) -> String { String(cString: strerror(number)).lowercased() }

    private static func port(of descriptor: Int32) -> UInt16? {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic -> UInt16? in
                guard getsockname(descriptor, generic, &size) == 0 else { return nil }
                return PeerAddress.port(generic)
            }
        }
    }
}
