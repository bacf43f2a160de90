import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// A resolver that never answers holds nothing up beyond its time. Wants to be root, for a resolv.conf of its own.
@Suite(.database, .timeLimit(.minutes(3)), .enabled(if: SilentResolver.isPossible))
struct SilentResolverTests {
    private func limited(_ work: () async throws -> Void) async rethrows -> Duration {
        let began = ContinuousClock.now
        try await work()
        return ContinuousClock.now - began
    }

    @Test func `connect_timeout holds for names, also behind other hosts`() async throws {
        let resolver = try SilentResolver()
        for url in [
            "postgresql://slow.example/x?connect_timeout=3",
            "postgresql://127.0.0.1:1,slow.example/x?connect_timeout=3",
        ] {
            var outcome: CommandOutcome?
            let took = try await limited {
                outcome = try await resolver.run(["task", "history"], ["DATABASE_URL": url])
            }
            #expect(outcome?.ending == .exited(75))
            #expect(outcome?.errorOutput.contains("\"slow.example\" to address: no answer within 3 s") == true)
            #expect(took < .seconds(15), "\(took)")
        }
    }

    @Test func `a host whose name is not resolved gives way to the next`() async throws {
        let resolver = try SilentResolver()
        let settings = try TestDatabase.current.settings
        let variables = [
            "PGHOST": "slow.example,\(settings.parameters["host"] ?? "")", "PGCONNECT_TIMEOUT": "2",
            "DATABASE_URL":
                "postgresql:///\(settings.parameters["dbname"] ?? "")?user=\(settings.parameters["user"] ?? "")",
        ]
        let outcome = try await resolver.run(["migrate", "status", "--system", "publisher"], variables)
        #expect(outcome.ending == .exited(3), "\(outcome.errorOutput)")
    }

    @Test func `a signal is heard while a name is looked for, by commands and by the service`() async throws {
        let resolver = try SilentResolver()
        let url = ["DATABASE_URL": "postgresql://127.0.0.1:1,slow.example/x?connect_timeout=100"]
        let listen = [
            "DATABASE_URL": try TestDatabase.current.settings.uri, "REEVE_HTTP_LISTEN": "slow.example:7433",
        ]
        for (arguments, variables, status) in [(["task", "history"], url, 143 as Int32), (["serve"], listen, 0)] {
            let asked = resolver.questions
            let child = try resolver.start(arguments, variables)
            try await waitUntil("it asks") { resolver.questions > asked }
            child.signal(SIGTERM)
            let took = await limited { #expect(await child.end() == .exited(status)) }
            #expect(took < .seconds(10), "\(arguments): \(took)")
        }
    }
}

/// A name server that takes questions and answers none.
final class SilentResolver: Sendable {
    private let folder: String
    private let descriptor: Int32
    private let count: Counter

    private final class Counter: @unchecked Sendable {
        private let lock = NSLock()
        private var number = 0
        var value: Int { lock.withLock { number } }
        func add() { lock.withLock { number += 1 } }
    }

    /// How many questions have come.
    var questions: Int { count.value }

    static let isPossible: Bool = {
        guard geteuid() == 0 else { return false }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        process.arguments = ["--mount", "true"]
        process.standardError = nil
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    init() throws {
        folder = "/tmp/reeve-resolver-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        // Port 53 of an address of its own, so that tests do not meet.
        var found: (Int32, String)?
        for last in 77..<250 {
            let text = "127.0.0.\(last)"
            let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(53).bigEndian
            inet_pton(AF_INET, text, &address.sin_addr)
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            if bound == 0 {
                found = (descriptor, text)
                break
            }
            close(descriptor)
        }
        let (descriptor, address) = try #require(found, "an address is free")
        self.descriptor = descriptor
        try "nameserver \(address)\noptions timeout:30 attempts:2\n".write(
            toFile: "\(folder)/resolv.conf", atomically: true, encoding: .utf8)
        let count = Counter()
        self.count = count
        Thread {
            var buffer = [UInt8](repeating: 0, count: 1024)
            while recv(descriptor, &buffer, buffer.count, 0) > 0 { count.add() }
            close(descriptor)
        }.start()
    }

    deinit {
        shutdown(descriptor, Int32(SHUT_RDWR))
        try? FileManager.default.removeItem(atPath: folder)
    }

    private func command(_ arguments: [String], _ variables: [String: String]) -> Command {
        let script = "mount --bind \(folder)/resolv.conf /etc/resolv.conf && exec \"$0\" \"$@\""
        return Command(
            "unshare", ["--mount", "sh", "-c", script, ReeveBinary.path] + arguments,
            environment: ReeveBinary.environment(nil, ["REEVE_STATE": "\(folder)/state"]).merging(variables) { $1 },
            directory: "/tmp")
    }

    func run(_ arguments: [String], _ variables: [String: String]) async throws -> CommandOutcome {
        try await command(arguments, variables).run(limit: .seconds(100))
    }

    func start(_ arguments: [String], _ variables: [String: String]) throws -> ChildProcess {
        try ChildProcess(command(arguments, variables))
    }
}
