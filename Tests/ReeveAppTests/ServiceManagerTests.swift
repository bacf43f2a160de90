import Foundation
import Processes
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import ReeveApp

/// What the service tells systemd, or another service manager with the same protocol.
@Suite(.database, .timeLimit(.minutes(3)))
struct ServiceManagerTests {
    /// The socket of a service manager.
    private final class Manager: Sendable {
        let name: String
        private let descriptor: Int32
        private let lines = Gathered<String>()

        init(isAbstract: Bool = false) throws {
            let path = "/tmp/reeve-notify-\(UUID().uuidString.prefix(8))"
            name = isAbstract ? "@\(path)" : path
            descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let start = isAbstract ? 1 : 0
            withUnsafeMutableBytes(of: &address.sun_path) { $0[start...].copyBytes(from: path.utf8) }
            let length = MemoryLayout<sa_family_t>.size + start + path.utf8.count + (isAbstract ? 0 : 1)
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(length)) }
            }
            try #require(bound == 0, "\(String(cString: strerror(errno)))")
        }

        deinit {
            close(descriptor)
            unlink(name)
        }

        /// All lines that have come.
        var all: [String] {
            var buffer = [UInt8](repeating: 0, count: 8192)
            while case let count = recv(descriptor, &buffer, buffer.count, 0), count > 0 {
                lines.add(String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").map(String.init))
            }
            return lines.all
        }

        func count(_ line: String) -> Int { all.filter { $0 == line }.count }
    }

    @Test(arguments: [false, true])
    func `the service says that it starts, is ready, is alive, and stops`(isAbstract: Bool) async throws {
        let manager = try Manager(isAbstract: isAbstract)
        let served = try Served(
            try TestDatabase.current.settings, ["NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000"])
        try await waitUntil("the service is ready") { manager.count("READY=1") == 1 }
        let before = manager.all.prefix { $0 != "READY=1" }
        #expect(before.contains("EXTEND_TIMEOUT_USEC=30000000"), "\(before)")
        try await waitUntil("the database is ready") {
            manager.all.contains { $0.hasPrefix("STATUS=1 database, ") && $0.hasSuffix("in progress: ready") }
        }
        // It feeds the watchdog at least twice as often as it has to.
        let (fed, began) = (manager.count("WATCHDOG=1"), ContinuousClock.now)
        try await waitUntil("the watchdog is fed") { manager.count("WATCHDOG=1") >= fed + 5 }
        #expect(ContinuousClock.now - began > .milliseconds(700))
        #expect(manager.count("STOPPING=1") == 0)
        served.reeve.signal(SIGTERM)
        #expect(try await served.reeve.end() == 0)
        #expect(manager.count("STOPPING=1") == 1 && manager.count("READY=1") == 1, "\(manager.all)")
    }

    @Test func `the watchdog of another process is not fed for it`() throws {
        let manager = try Manager()
        let parent = ["NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"]
        #expect(try #require(ServiceManager(parent)).watchdog == nil)
        let own = parent.merging(["WATCHDOG_PID": "\(getpid())"]) { $1 }
        #expect(try #require(ServiceManager(own)).watchdog == .milliseconds(400))
        for name in ["", "relative", "vsock:2:1234", "/" + String(repeating: "x", count: 200)] {
            #expect(ServiceManager(["NOTIFY_SOCKET": name]) == nil, "\(name)")
        }
        #expect(ServiceManager([:]) == nil)
        // Nobody listens: the message is dropped.
        #expect(ServiceManager(["NOTIFY_SOCKET": "/nonexistent/socket"])?.tell(.ready) == false)
    }

    private struct Lines: LogSink {
        let lines = Gathered<String>()
        func write(_ line: LogLine) { lines.add([line.message]) }
    }

    private final class Time: Sendable {
        private let passed = Mutex(Duration.zero)
        private let start = ContinuousClock.now
        var now: ContinuousClock.Instant { start + passed.withLock { $0 } }
        func pass(_ time: Duration) { passed.withLock { $0 += time } }
    }

    @Test func `a loop that hangs starves the watchdog until it goes on`() async throws {
        let (manager, time, said) = (try Manager(), Time(), Lines())
        let progress = ServiceProgress { time.now }
        let report = ServiceReport(
            to: try #require(ServiceManager(["NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "20000"])),
            progress: progress, drain: .seconds(1), logger: Logger(level: .info, sink: said)
        ) { "as expected" }
        progress.turn("one")
        progress.turn("two")
        report.enter(.running)
        try await waitUntil("the watchdog is fed") { manager.count("WATCHDOG=1") > 3 }
        time.pass(ServiceReport.silence + .seconds(1))
        progress.turn("one")
        try await waitUntil("the hang is told") { !said.lines.all.isEmpty }
        let (fed, told) = (manager.count("WATCHDOG=1"), manager.count("STATUS=as expected"))
        try await waitUntil("the thread goes on") { manager.count("STATUS=as expected") > told + 5 }
        #expect(manager.count("WATCHDOG=1") <= fed + 1)
        #expect(said.lines.all.count == 1, "\(said.lines.all)")
        progress.turn("two")
        try await waitUntil("the watchdog is fed again") { manager.count("WATCHDOG=1") > fed + 3 }
        // The loops end while the service stops.
        time.pass(ServiceReport.silence + .seconds(1))
        report.enter(.stopping)
        report.enter(.running)
        let later = manager.count("WATCHDOG=1")
        try await waitUntil("the watchdog is fed while stopping") { manager.count("WATCHDOG=1") > later + 3 }
        #expect(manager.count("STOPPING=1") == 1)
        report.enter(.ended)
    }
}
