import Foundation

/// The address of a client, or the address to listen on: an IP address without the port, or a Unix socket without its
/// path.
struct PeerAddress: Hashable, CustomStringConvertible {
    /// 4 or 16 bytes; empty for a Unix socket. An IPv4 address mapped into IPv6 (RFC 4291, section 2.5.5.2) is stored
    /// as IPv4.
    private let bytes: [UInt8]

    /// nil for an address of another family.
    init?(_ address: UnsafePointer<sockaddr>?) {
        guard let address else { return nil }
        let raw = UnsafeRawPointer(address)
        switch Int32(address.pointee.sa_family) {
        case AF_INET:
            self.init(withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in.self).sin_addr) { Array($0) })
        case AF_INET6:
            self.init(withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { Array($0) })
        case AF_UNIX: self.init([])
        default: return nil
        }
    }

    /// Parses an IP address without brackets and port; nil for any other text.
    init?(literal text: String) {
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(withUnsafeBytes(of: four) { Array($0) })
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            self.init(withUnsafeBytes(of: six) { Array($0) })
        } else {
            return nil
        }
    }

    private init(_ bytes: [UInt8]) {
        let mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
        self.bytes = bytes.count == 16 && bytes.starts(with: mapped) ? Array(bytes[12...]) : bytes
    }

    /// Whether only this machine can use the address.
    var isLoopback: Bool {
        switch bytes.count {
        case 0: true
        case 4: bytes[0] == 127
        default: bytes == [UInt8](repeating: 0, count: 15) + [1]
        }
    }

    /// The address by which connections are counted: the address itself for IPv4, the /64 network for IPv6, because
    /// each IPv6 host has a whole /64 network of addresses.
    var peer: PeerAddress { PeerAddress(bytes.count == 16 ? Array(bytes[..<8]) : bytes) }

    var description: String {
        guard !bytes.isEmpty else { return "a Unix socket" }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else { return "an address" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func port(_ address: UnsafePointer<sockaddr>) -> UInt16? {
        let raw = UnsafeRawPointer(address)
        switch Int32(address.pointee.sa_family) {
        case AF_INET: return raw.loadUnaligned(as: sockaddr_in.self).sin_port.byteSwapped
        case AF_INET6: return raw.loadUnaligned(as: sockaddr_in6.self).sin6_port.byteSwapped
        default: return nil
        }
    }
}
