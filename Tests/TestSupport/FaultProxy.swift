import Foundation
import Postgres
import Synchronization

/// A proxy before a PostgreSQL server's Unix socket that counts what the client sends and, when told so, does harm:
/// calls somebody before the Nth statement passes, stops to forward, or cuts the connection.
///
/// It runs on threads of its own, one for each direction of each connection.
public final class FaultProxy: Sendable {
    public enum Fault: Sendable {
        case none
        /// Neither forwards nor closes: a half-open connection.
        case silence
        /// The same for this connection alone; new ones are served.
        case mute
        /// The same, and the server is not told when the client closes: it goes on to wait for one that is gone.
        case strand
        /// Closes both sides.
        case cut
        /// Forwards half of what has come, and closes both sides.
        case cutWithin
        /// Closes both sides, and all connections that come after.
        case cutForGood
    }

    private struct State {
        var statements = 0
        var at: Int?
        var text: String?
        var due: [UInt8] = []
        var isAfter = false
        var action: (@Sendable (Int) -> Fault)?
        var links: [WeakLink] = []
        var silent = false
        var closed = false
        var refuses = false
    }

    public let folder: String
    private let upstream: String
    private let listener: Int32
    private let state = Mutex(State())
    private let posesAsPooler: Bool
    private let ignored: String?

    /// - Parameters:
    ///   - settings: how to reach the real server, by a Unix socket.
    ///   - posesAsPooler: whether clients are told a process number that is not the server's, as poolers do.
    ///   - ignored: the application name of connections whose statements are forwarded and not counted.
    public init(before settings: ConnectionSettings, posesAsPooler: Bool = false, ignoring ignored: String? = nil)
        throws
    {
        self.posesAsPooler = posesAsPooler
        self.ignored = ignored
        upstream = "\(settings.parameters["host"] ?? "")/.s.PGSQL.\(settings.parameters["port"] ?? "5432")"
        folder = "/tmp/reeve-proxy-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        listener = Self.socket { Foundation.bind($0, $1, $2) == 0 && listen($0, 64) == 0 }(
            "\(folder)/.s.PGSQL.5432")
        if listener < 0 { throw NeverHappened(what: "the proxy listens") }
        let thread = Thread { [self] in accept() }
        thread.start()
    }

    /// How to reach the server through the proxy.
    public func settings(_ real: ConnectionSettings) -> ConnectionSettings {
        var settings = real
        settings.parameters["host"] = folder
        settings.parameters["port"] = "5432"
        return settings
    }

    /// The statements that clients have sent so far (simple and extended).
    public var statements: Int { state.withLock { $0.statements } }

    /// What the client sent with the statement that was due last.
    public var dueText: String { state.withLock { String(decoding: $0.due, as: UTF8.self) } }

    /// Calls `action` when the statement of that number has come; counts from now.
    ///
    /// - Parameter afterForwarding: when the server has it already; else before.
    public func arm(
        at number: Int, afterForwarding: Bool = false, _ action: @escaping @Sendable (Int) -> Fault
    ) {
        state.withLock {
            $0.statements = 0
            $0.at = number
            $0.text = nil
            $0.isAfter = afterForwarding
            $0.action = action
        }
    }

    /// The same when a client sends the text, whichever connection that is on; once.
    public func arm(
        onText text: String, afterForwarding: Bool = false, _ action: @escaping @Sendable (Int) -> Fault
    ) {
        state.withLock {
            $0.at = nil
            $0.text = text
            $0.isAfter = afterForwarding
            $0.action = action
        }
    }

    /// Stops to forward, on all connections, without closing them.
    public func fallSilent() { state.withLock { $0.silent = true } }

    /// Stops to forward on the connections that there are; new ones are served.
    public func muteAll() {
        for link in state.withLock({ $0.links.compactMap(\.value) }) { link.mute() }
    }

    /// Closes all connections.
    public func cut() {
        for link in state.withLock({ $0.links.compactMap(\.value) }) { link.cut() }
    }

    public func close() {
        state.withLock { $0.closed = true }
        cut()
        shutdown(listener, Int32(SHUT_RDWR))
        Foundation.close(listener)
        try? FileManager.default.removeItem(atPath: folder)
    }

    private static func socket(
        _ use: @escaping (Int32, UnsafePointer<sockaddr>, socklen_t) -> Bool
    ) -> (String) -> Int32 {
        { path in
            let descriptor = Foundation.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let done = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    use(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            if done { return descriptor }
            Foundation.close(descriptor)
            return -1
        }
    }

    private func accept() {
        while true {
            let client = Foundation.accept(listener, nil, nil)
            if client < 0 { return }
            let server = state.withLock({ $0.refuses }) ? -1 : Self.socket { connect($0, $1, $2) == 0 }(upstream)
            if server < 0 {
                Foundation.close(client)
                continue
            }
            let link = Link(client: client, server: server)
            state.withLock { state in
                state.links.removeAll { $0.value == nil }
                state.links.append(WeakLink(value: link))
            }
            Thread { [self] in pump(from: client, to: server, of: link, counting: true) }.start()
            Thread { [self] in pump(from: server, to: client, of: link, counting: false) }.start()
        }
    }

    private func pump(from source: Int32, to target: Int32, of link: Link, counting: Bool) {
        defer { if !link.isStranded { link.cut() } }
        var parser = FrontendParser(ignoring: ignored)
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(source, &buffer, buffer.count)
            if count <= 0 {
                // A network that is silent tells neither side that the other is gone.
                while link.isMuted || state.withLock({ $0.silent }), !state.withLock({ $0.closed }), !link.isCut {
                    Thread.sleep(forTimeInterval: 0.02)
                }
                break
            }
            if !counting, posesAsPooler { Self.changeProcess(in: &buffer, count) }
            let statements = counting ? parser.statements(in: buffer[..<count]) : 0
            let due = counting && !parser.isIgnored ? dueAction(with: statements, buffer[..<count]) : nil
            var end = count
            if let due, !state.withLock({ $0.isAfter }), !carryOut(due, on: link, &end) { break }
            if state.withLock({ $0.silent }) || link.isMuted { continue }
            let isAfter = due != nil && state.withLock { $0.isAfter }
            // The answer must not arrive before the harm is done.
            if isAfter { link.hold() }
            if !counting, link.isHeld {
                while link.isHeld, !link.isCut { Thread.sleep(forTimeInterval: 0.002) }
                if link.isCut { break }
                if state.withLock({ $0.silent }) || link.isMuted { continue }
            }
            var sent = 0
            while sent < end {
                // Not write(), for a peer that is gone must not end the tests with SIGPIPE.
                let written = buffer.withUnsafeBytes {
                    send(target, $0.baseAddress?.advanced(by: sent), end - sent, Int32(MSG_NOSIGNAL))
                }
                if written <= 0 { break }
                sent += written
            }
            if end < count { break }
            if let due, isAfter {
                if !carryOut(due, on: link, &end) { break }
                link.release()
            }
        }
    }

    /// Changes the process of a BackendKeyData message, which comes once, with the end of the greeting.
    private static func changeProcess(in buffer: inout [UInt8], _ count: Int) {
        let header: [UInt8] = [UInt8(ascii: "K"), 0, 0, 0, 12]
        guard let found = buffer[..<count].firstRange(of: header), found.upperBound < count else { return }
        buffer[found.upperBound] ^= 0x40
    }

    /// - Returns: what is due with these statements.
    private func dueAction(
        with statements: Int, _ bytes: ArraySlice<UInt8>
    ) -> (@Sendable (Int) -> Fault)? {
        state.withLock { state in
            let before = state.statements
            state.statements += statements
            if let text = state.text, !bytes.ranges(of: Array(text.utf8)).isEmpty {
                state.text = nil
                return state.action
            }
            guard let at = state.at, before < at, at <= state.statements else { return nil }
            state.due = Array(bytes)
            return state.action
        }
    }

    /// - Returns: false when the connection is to be cut.
    private func carryOut(_ action: (Int) -> Fault, on link: Link, _ end: inout Int) -> Bool {
        switch action(statements) {
        case .silence: fallSilent()
        case .mute: link.mute()
        case .strand: link.strand()
        case .cut: return false
        case .cutForGood:
            state.withLock { $0.refuses = true }
            return false
        case .cutWithin: end /= 2
        case .none: break
        }
        return true
    }
}

/// Both ends of one connection; closed when both directions have let go.
private final class Link: Sendable {
    private let client: Int32
    private let server: Int32
    private let muted = Mutex(false)
    private let wasCut = Mutex(false)

    var isCut: Bool { wasCut.withLock { $0 } }
    var isMuted: Bool { muted.withLock { $0 } }
    func mute() { muted.withLock { $0 = true } }

    private let held = Mutex(false)

    /// Whether answers wait.
    var isHeld: Bool { held.withLock { $0 } }
    func hold() { held.withLock { $0 = true } }
    func release() { held.withLock { $0 = false } }

    private let stranded = Mutex(false)

    var isStranded: Bool { stranded.withLock { $0 } }
    func strand() {
        mute()
        stranded.withLock { $0 = true }
    }

    init(client: Int32, server: Int32) {
        self.client = client
        self.server = server
    }

    deinit {
        close(client)
        close(server)
    }

    func cut() {
        wasCut.withLock { $0 = true }
        shutdown(client, Int32(SHUT_RDWR))
        shutdown(server, Int32(SHUT_RDWR))
    }
}

private struct WeakLink: Sendable {
    weak let value: Link?
}

/// Reads the messages of a client as far as to count its statements (PostgreSQL manual, section 55.7).
struct FrontendParser {
    private var pending: [UInt8] = []
    private var started = false
    private let ignored: [UInt8]?
    /// Whether the connection has the application name that is ignored.
    private(set) var isIgnored = false

    init(ignoring application: String? = nil) {
        // A parameter of the startup message.
        ignored = application.map { Array("application_name\0\($0)\0".utf8) }
    }

    mutating func statements(in bytes: ArraySlice<UInt8>) -> Int {
        pending += bytes
        var count = 0
        while true {
            // The startup message, and a request for TLS or to cancel, have no type byte.
            let header = started ? 5 : 4
            guard pending.count >= header else { return count }
            let at = header - 4
            let length = pending[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }
            guard pending.count >= length + at else { return count }
            if started, pending[0] == UInt8(ascii: "Q") || pending[0] == UInt8(ascii: "P") { count += 1 }
            if !started, let ignored, pending[..<length].firstRange(of: ignored) != nil { isIgnored = true }
            if !started { started = true }
            pending.removeFirst(length + at)
        }
    }
}
