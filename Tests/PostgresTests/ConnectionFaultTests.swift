import Foundation
import Postgres
import TestSupport
import Testing

/// A server that is lost, half-open, too generous or badly encoded: an error each, and never a hang.
@Suite(.database, .timeLimit(.minutes(2)))
struct ConnectionFaultTests {
    private func throughProxy(_ body: @Sendable (FaultProxy, Connection) async throws -> Void) async throws {
        let database = try TestDatabase.current
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var settings = proxy.settings(database.settings)
        settings.drainTimeout = .milliseconds(300)
        let connection = try await Connection.open(settings)
        try await body(proxy, connection)
        await connection.close()
    }

    @Test func `a connection cut during a statement is an error, and further work too`() async throws {
        try await throughProxy { proxy, connection in
            proxy.arm(at: 1) { _ in .cut }
            let error = await #expect(throws: PostgresError.self) {
                try await connection.with { try $0.query("SELECT 1") }
            }
            #expect(error?.kind == .connectionLost)
            #expect(await connection.isOpen == false)
            await #expect(throws: PostgresError.self) { try await connection.with { try $0.query("SELECT 1") } }
        }
    }

    @Test func `a half-open connection ends with the deadline`() async throws {
        try await throughProxy { proxy, connection in
            proxy.fallSilent()
            let began = ContinuousClock.now
            let error = await #expect(throws: PostgresError.self) {
                try await connection.with(within: .milliseconds(200)) { try $0.query("SELECT 1") }
            }
            #expect(error?.kind == .timedOut)
            #expect(ContinuousClock.now - began < .seconds(20))
            #expect(await connection.isOpen == false)
        }
    }

    @Test func `a backend that is terminated is an error with its SQLSTATE`() async throws {
        let database = try TestDatabase.current
        try await database.connection { connection in
            let pid = await connection.serverProcess
            let work = Task { try await connection.with { try $0.query("SELECT pg_sleep(60)") } }
            try await waitUntil("it sleeps") {
                try await database.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", [pid]) == 1
            }
            try await database.execute("SELECT pg_terminate_backend(\(pid))")
            let error = await #expect(throws: PostgresError.self) { try await work.value }
            #expect(error?.kind == .connectionLost)
            #expect(error?.sqlState == "57P01")
        }
    }

    @Test func `a result beyond the limit is refused and the connection serves on`() async throws {
        var settings = try TestDatabase.current.settings
        settings.resultLimit = 1 << 20
        let connection = try await Connection.open(settings)
        let error = await #expect(throws: PostgresError.self) {
            try await connection.with { try $0.query("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)") }
        }
        #expect(error?.kind == .resultTooLarge)
        let one = try await connection.value("SELECT 1", as: Int.self)
        #expect(one == 1)
        await connection.close()
    }

    @Test func `bytes that are no UTF-8 are an error of the value, not a crash`() async throws {
        let name = try TestDatabase.current.name + "_ascii"
        let admin = try TestDatabase.current.settings
        try await TestDatabase.current.execute(
            "CREATE DATABASE \(name) ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        let connection = try await Connection.open(admin.database(name))
        let error = await #expect(throws: PostgresError.self) {
            try await connection.with { connection in
                try connection.execute("SET client_encoding = 'SQL_ASCII'")
                return try connection.query("SELECT convert_from('\\xff41', 'SQL_ASCII')").first?.get(
                    0, as: String.self)
            }
        }
        #expect(error?.kind == .badValue)
        await connection.close()
        try await TestDatabase.current.execute("DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test func `a NUL is refused before it is cut off`() async throws {
        try await TestDatabase.current.with { connection in
            #expect(throws: PostgresError.self) { _ = try connection.query("SELECT $1::text", ["a\0b"]) }
            #expect(throws: PostgresError.self) { _ = try connection.execute("SELECT 1\0; DROP TABLE t") }
        }
    }

    @Test func `COPY in a query is refused and the connection serves on`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE TABLE t (a int)")
            #expect(throws: PostgresError.self) { _ = try connection.query("COPY t FROM STDIN") }
            #expect(throws: PostgresError.self) { _ = try connection.execute("COPY t TO STDOUT") }
            #expect(try connection.copyIn("COPY t FROM STDIN", Array("1\n2\n3\n".utf8)).rowCount == 3)
            #expect(throws: PostgresError.self) { _ = try connection.copyIn("COPY t FROM STDIN", Array("x\n".utf8)) }
            #expect(try connection.query("SELECT count(*) FROM t").first?.get(0, as: Int.self) == 3)
        }
    }

    @Test func `a large COPY passes`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE TABLE t (a text)")
            let line = String(repeating: "y", count: 999) + "\n"
            let data = Array(String(repeating: line, count: 20_000).utf8)
            #expect(try connection.copyIn("COPY t FROM STDIN", data).rowCount == 20_000)
        }
    }

    @Test func `a COPY whose time is over is ended and the connection serves on`() async throws {
        let database = try TestDatabase.current
        try await database.connection { connection in
            try await connection.with { try $0.execute("CREATE TABLE t (a text)") }
            // A lock holds the COPY up, so that its data pile up before the server.
            try await database.connection { other in
                try await other.with { try $0.execute("BEGIN; LOCK TABLE t") }
                let data = Array(String(repeating: String(repeating: "y", count: 999) + "\n", count: 5000).utf8)
                let error = await #expect(throws: PostgresError.self) {
                    try await connection.with(within: .milliseconds(200)) { try $0.copyIn("COPY t FROM STDIN", data) }
                }
                #expect(error?.kind == .timedOut)
            }
            let count = try await connection.value("SELECT count(*) FROM t", as: Int.self)
            #expect(count == 0)
        }
    }

    @Test func `a late cancel never meets the next statement`() async throws {
        try await TestDatabase.current.connection { connection in
            for round in 0..<60 {
                let work = Task {
                    try await connection.with { try $0.query("SELECT pg_sleep(0.002)") }
                }
                try await Task.sleep(for: .microseconds(round * 100))
                work.cancel()
                _ = try? await work.value
                let answer = try await connection.value("SELECT \(round)", as: Int.self)
                #expect(answer == round)
            }
        }
    }

    @Test func `nobody there is an error that says where`() async throws {
        var settings = ConnectionSettings(parameters: [
            "host": "/tmp/reeve-nobody", "dbname": "d", "user": "u", "password": "s3cret",
        ])
        settings.connectTimeout = .seconds(2)
        let error = await #expect(throws: PostgresError.self) { try await Connection.open(settings) }
        #expect(error?.kind == .cannotConnect)
        #expect(error?.message.contains("/tmp/reeve-nobody") == true)
        #expect(error?.description.contains("s3cret") == false)
    }

    @Test func `a server that never answers is given up in time`() async throws {
        let proxy = try FaultProxy(before: TestDatabase.current.settings)
        defer { proxy.close() }
        proxy.fallSilent()
        var settings = proxy.settings(try TestDatabase.current.settings)
        settings.connectTimeout = .milliseconds(300)
        let error = await #expect(throws: PostgresError.self) { try await Connection.open(settings) }
        #expect(error?.kind == .cannotConnect)
    }
}
