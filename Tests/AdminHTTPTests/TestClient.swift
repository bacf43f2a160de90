import Foundation
import Testing

/// A connection to a server of the tests, to misbehave on.
final class TestClient: Sendable {
    let descriptor: Int32

    /// - Parameter receiveBuffer: bytes that the kernel takes in before they are read; nil: as many as it likes.
    init(port: UInt16, receiveBuffer: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        if var size = receiveBuffer {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        var timeout = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(connected == 0, "\(String(cString: strerror(errno)))")
    }

    deinit { close(descriptor) }

    /// - Returns: whether the server still took it.
    @discardableResult
    func send(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return Foundation.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
    }

    /// All that comes until the server closes; nil when it does not within 20 s.
    func readToEnd() -> String? {
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Foundation.read(descriptor, &buffer, buffer.count)
            if count == 0 || count < 0 && errno == ECONNRESET { return String(decoding: answer, as: UTF8.self) }
            if count < 0 { return nil }
            answer += buffer[..<count]
        }
    }

    /// Reads up to and including a text, or to the end.
    func read(until end: String) -> String {
        var answer: [UInt8] = []
        var byte: UInt8 = 0
        let end = Array(end.utf8)
        while !answer.reversed().starts(with: end.reversed()), Foundation.read(descriptor, &byte, 1) == 1 {
            answer.append(byte)
        }
        return String(decoding: answer, as: UTF8.self)
    }

    /// Closes the sending half.
    func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Whether the server has closed the connection, without waiting for it.
    var isClosed: Bool {
        var byte: UInt8 = 0
        let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        return count == 0 || count < 0 && errno != EAGAIN
    }

    /// Sends a whole request and reads the answer.
    static func exchange(_ port: UInt16, _ request: String) throws -> String {
        let client = try TestClient(port: port)
        try #require(client.send(request))
        return try #require(client.readToEnd())
    }
}
