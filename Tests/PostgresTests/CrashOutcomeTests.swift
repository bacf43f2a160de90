import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Postgres

/// What is told of a COMMIT after a crash of the server, in a cluster of its own.
@Suite(.timeLimit(.minutes(5)))
struct CrashOutcomeTests {
    private func withCluster(_ body: (ConnectionSettings) async throws -> Void) async throws {
        let folder = "\(TestCluster.stateFolder)/c\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        signal(SIGPIPE, SIG_IGN)
        var options = EmbeddedCluster.Options(stateFolder: folder)
        // Nothing but a COMMIT brings the log to the disk.
        options.settings = [
            "shared_buffers": "8MB", "max_connections": "20", "wal_writer_delay": "10s", "autovacuum": "off",
            "restart_after_crash": "on",
        ]
        let cluster = try await EmbeddedCluster.acquire(options)
        do {
            try await body(cluster.settings())
            await cluster.destroy()
        } catch {
            await cluster.destroy()
            throw error
        }
    }

    private final class Shared: Sendable {
        let writer = Mutex<(process: Int, number: Int64)>((0, .max))
        let wasGivenOut = Mutex(false)
    }

    /// Commits transactions of others until the number was given out again, as soon as the server has recovered.
    ///
    /// - Returns: whether one of them got that very number.
    private static func giveOut(_ number: Int64, _ settings: ConnectionSettings) async throws -> Bool {
        let got = Mutex(false)
        try await waitUntil("the server has recovered") {
            let last = try? await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    var last: Int64 = 0
                    while last < number {
                        last = try connection.query("SELECT pg_current_xact_id()::text::int8").first?.get(0) ?? .max
                        if last == number { got.withLock { $0 = true } }
                    }
                    return last
                }
            }
            return last != nil
        }
        return got.withLock { $0 }
    }

    /// The cut is made while the server's process that had the transaction is killed; the question comes when another
    /// transaction has its number, and was committed.
    @Test func `a number that was given out again after a crash does not tell of the one that had it before`()
        async throws
    {
        try await withCluster { real in
            try await Connection.opened(real) { connection in
                try await connection.with { try $0.execute("CREATE TABLE public.rows (key bigint PRIMARY KEY)") }
            }
            let proxy = try FaultProxy(before: real)
            defer { proxy.close() }
            let shared = Shared()
            // BEGIN, the row, the number for the test, the question for the number, COMMIT; before them the settings.
            proxy.arm(at: 6) { _ in
                proxy.muteAll()
                let (process, number) = shared.writer.withLock { $0 }
                kill(pid_t(process), SIGKILL)
                let done = DispatchSemaphore(value: 0)
                Task.detached {
                    let got = try? await Self.giveOut(number, real)
                    shared.wasGivenOut.withLock { $0 = got == true }
                    done.signal()
                }
                done.wait()
                return .cut
            }
            let error = await #expect(throws: PostgresError.self) {
                try await Connection.opened(proxy.settings(real)) { connection in
                    try await connection.with { connection in
                        try connection.transaction {
                            try connection.query("INSERT INTO public.rows VALUES (1)")
                            let number: Int64? = try connection.query(
                                "SELECT pg_current_xact_id()::text::int8"
                            ).first?.get(0)
                            shared.writer.withLock { $0 = (connection.serverProcess, number ?? .max) }
                        }
                    }
                }
            }
            try #require(shared.wasGivenOut.withLock { $0 }, "the number was not given out again")
            #expect(error?.kind == .commitOutcomeUnknown, "\(String(describing: error))")
            let rows: Int = try await Connection.opened(real) {
                try await $0.value("SELECT count(*) FROM public.rows")
            }
            #expect(rows == 0)
        }
    }

    /// A role that may do nothing but connect can look its outcomes up all the same.
    @Test func `a plain role is told of a COMMIT whose answer was cut off`() async throws {
        try await withCluster { real in
            try await Connection.opened(real) { connection in
                try await connection.with {
                    try $0.execute(
                        """
                        CREATE ROLE plain LOGIN; CREATE TABLE public.rows (key bigint PRIMARY KEY);
                        GRANT INSERT ON public.rows TO plain
                        """)
                }
            }
            let proxy = try FaultProxy(before: real)
            defer { proxy.close() }
            // The settings, BEGIN, the row, the question, COMMIT.
            proxy.arm(at: 5, afterForwarding: true) { _ in .cut }
            var settings = proxy.settings(real)
            settings.parameters["user"] = "plain"
            try await Connection.opened(settings) { connection in
                try await connection.with { connection in
                    try connection.transaction { _ = try connection.query("INSERT INTO public.rows VALUES (1)") }
                }
            }
        }
    }
}
