import Foundation
import Synchronization

/// A proxy before an S3 server that reads each request whole and then does with it as it is told.
public final class S3FaultProxy: Sendable {
    public enum Fault: Sendable, Equatable {
        case none
        /// Answers so itself; the server never sees the request.
        case status(Int, code: String)
        /// Answers 200 with an error within; the server never sees the request.
        case errorInside200(code: String)
        /// The request is carried out, and the connection cut before the answer.
        case resetAfter
        /// The connection is cut before the server sees the request.
        case resetBefore
        /// Only half of the answer comes.
        case truncated
        /// The request is carried out twice.
        case twice
        /// The answer comes without its body's first bit as it was.
        case flipped
        /// Nothing comes, until the client gives up.
        case silence
        /// The answer comes a byte in half a second, and never to its end.
        case drip
        /// A page of a listing does not tell where the next one begins.
        case withoutMark
        /// As a server whose clock is one hour ahead.
        case skewed
    }

    public struct Request: Sendable {
        public let number: Int
        public let method: String
        public let target: String
        public let headers: [String: String]
    }

    public let port: Int
    private let upstream: Int
    private let listener: Int32
    private let decide: @Sendable (Request) -> Fault
    private let counts = Mutex((requests: 0, faults: 0))

    public var endpoint: String { "http://127.0.0.1:\(port)" }
    public var faults: Int { counts.withLock { $0.faults } }
    public var requests: Int { counts.withLock { $0.requests } }

    public init(before server: S3Server, _ decide: @escaping @Sendable (Request) -> Fault) throws {
        upstream = server.port
        self.decide = decide
        let listener = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = Self.loopback(0)
        let bound = Self.with(&address) { Foundation.bind(listener, $0, $1) == 0 && listen(listener, 64) == 0 }
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let named = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(listener, $0, &size) == 0 }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        self.listener = listener
        guard bound, named else { throw NeverHappened(what: "the proxy listens") }
        Thread { [self] in accept() }.start()
    }

    public func close() {
        shutdown(listener, Int32(SHUT_RDWR))
        Foundation.close(listener)
    }

    private static func loopback(_ port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private static func with(_ address: inout sockaddr_in, _ use: (UnsafePointer<sockaddr>, socklen_t) -> Bool) -> Bool
    {
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { use($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }

    private func accept() {
        while true {
            let client = Foundation.accept(listener, nil, nil)
            if client < 0 { return }
            Thread { [self] in serve(client) }.start()
        }
    }

    // MARK: One request

    private func serve(_ client: Int32) {
        defer { Foundation.close(client) }
        guard let (head, body) = Self.message(from: client) else { return }
        let lines = String(decoding: head, as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ").map(String.init)
        guard words.count == 3 else { return }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] =
                line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        }
        let number = counts.withLock { counts in
            counts.requests += 1
            return counts.requests
        }
        let fault = decide(Request(number: number, method: words[0], target: words[1], headers: headers))
        if fault != .none { counts.withLock { $0.faults += 1 } }
        // Each goes by a connection of its own, here and there.
        let request =
            Array(
                (lines.filter { !$0.lowercased().hasPrefix("connection:") && !$0.isEmpty } + ["Connection: close"])
                    .joined(separator: "\r\n").utf8) + Array("\r\n\r\n".utf8) + body
        answer(client, request, fault, isHead: words[0] == "HEAD", skewed: headers["x-amz-date"])
    }

    private func answer(_ client: Int32, _ request: [UInt8], _ fault: Fault, isHead: Bool, skewed: String?) {
        switch fault {
        case .none: Self.send(forward(request, isHead), to: client)
        case .status(let status, let code): Self.send(Self.error(status, code), to: client)
        case .errorInside200(let code): Self.send(Self.error(200, code), to: client)
        case .resetBefore: Self.reset(client)
        case .resetAfter:
            _ = forward(request, isHead)
            Self.reset(client)
        case .truncated:
            let whole = forward(request, isHead)
            Self.send(Array(whole.prefix(max(1, whole.count - max(1, whole.count / 3)))), to: client)
        case .twice:
            _ = forward(request, isHead)
            Self.send(forward(request, isHead), to: client)
        case .flipped:
            var whole = forward(request, isHead)
            if let start = Self.bodyStart(whole), start < whole.count { whole[start] ^= 1 }
            Self.send(whole, to: client)
        case .withoutMark:
            var whole = forward(request, isHead)
            let mark = Array("NextContinuationToken".utf8)
            while let place = whole.firstRange(of: mark) {
                whole.replaceSubrange(place, with: "PastContinuationToken".utf8)
            }
            Self.send(whole, to: client)
        case .silence:
            var byte: UInt8 = 0
            while read(client, &byte, 1) > 0 {}
        case .drip:
            for byte in Array("HTTP/1.1 200 OK\r\nX-Long: ".utf8) + [UInt8](repeating: 97, count: 10_000) {
                var one = byte
                guard Foundation.send(client, &one, 1, Int32(MSG_NOSIGNAL)) == 1 else { return }
                Thread.sleep(forTimeInterval: 0.5)
            }
        case .skewed:
            // The signature's time must be the server's, give or take a quarter of an hour.
            let hour = Date().addingTimeInterval(3600)
            let format = Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted)
            let told = skewed.flatMap { try? format.parse($0) } ?? .distantPast
            if abs(told.timeIntervalSince(hour)) < 900 {
                Self.send(forward(request, isHead), to: client)
            } else {
                Self.send(Self.error(403, "RequestTimeTooSkewed", date: hour), to: client)
            }
        }
    }

    private static func error(_ status: Int, _ code: String, date: Date = Date()) -> [UInt8] {
        let body = "<?xml version=\"1.0\"?><Error><Code>\(code)</Code><Message>made by the test</Message></Error>"
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = .gmt
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        return Array(
            ("HTTP/1.1 \(status) Made\r\nDate: \(formatter.string(from: date))\r\nContent-Length: \(body.utf8.count)\r\n"
                + "Connection: close\r\n\r\n\(body)").utf8)
    }

    private func forward(_ request: [UInt8], _ isHead: Bool) -> [UInt8] {
        let server = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { Foundation.close(server) }
        var address = Self.loopback(upstream)
        guard Self.with(&address, { connect(server, $0, $1) == 0 }) else { return [] }
        Self.send(request, to: server)
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(server, &buffer, buffer.count)
            if count <= 0 { break }
            answer += buffer[..<count]
        }
        return answer
    }

    private static func message(from client: Int32) -> (head: [UInt8], body: [UInt8])? {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        var start: Int?
        var length = 0
        while start.map({ all.count < $0 + length }) ?? true {
            let count = read(client, &buffer, buffer.count)
            if count <= 0 { return nil }
            all += buffer[..<count]
            if start == nil, let found = bodyStart(all) {
                start = found
                let head = String(decoding: all[..<found], as: UTF8.self).lowercased()
                length =
                    head.components(separatedBy: "content-length:").dropFirst().first
                    .flatMap { Int($0.prefix { $0 != "\r\n" }.trimmingCharacters(in: .whitespaces)) } ?? 0
            }
        }
        guard let start else { return nil }
        return (Array(all[..<(start - 4)]), Array(all[start...]))
    }

    private static func bodyStart(_ bytes: [UInt8]) -> Int? {
        let end = Array("\r\n\r\n".utf8)
        return bytes.withUnsafeBytes { bytes in
            // Heads are short.
            guard let first = bytes.baseAddress else { return nil }
            for start in 0..<max(0, min(bytes.count, 16384) - 3) where memcmp(first + start, end, 4) == 0 {
                return start + 4
            }
            return nil
        }
    }

    private static func send(_ bytes: [UInt8], to descriptor: Int32) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Foundation.send(descriptor, $0.baseAddress?.advanced(by: sent), bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            sent += count
        }
    }

    /// Closes so that the other side gets RST, not an orderly end.
    private static func reset(_ client: Int32) {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Foundation.linger>.size))
    }
}
