import Foundation
import Postgres
import TestSupport
import Testing

@Suite(.database, .timeLimit(.minutes(2)))
struct PoolTests {
    @Test func `no more than size and overflow are lent, and all get their turn`() async throws {
        let pool = Pool(try TestDatabase.current.settings, limits: Pool.Limits(size: 2, overflow: 1))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<30 {
                group.addTask {
                    try await pool.with { try $0.query("SELECT pg_sleep(0.005)") }
                    #expect(await pool.usage.lent <= 3)
                }
            }
            try await group.waitForAll()
        }
        let usage = await pool.usage
        #expect(usage.idle == 2 && usage.lent == 0 && usage.waiting == 0)
        await pool.close()
    }

    @Test func `whoever waits too long is told so, and whoever is cancelled leaves the line`() async throws {
        let pool = Pool(
            try TestDatabase.current.settings, limits: Pool.Limits(size: 1, overflow: 0, wait: .milliseconds(100)))
        try await pool.withConnection { _ in
            let error = await #expect(throws: PostgresError.self) { try await pool.with { try $0.query("SELECT 1") } }
            #expect(error?.kind == .poolExhausted)
            let waiting = Task { try await pool.with { try $0.query("SELECT 1") } }
            waiting.cancel()
            await #expect(throws: CancellationError.self) { try await waiting.value }
            #expect(await pool.usage.waiting == 0)
        }
        try await pool.with { _ = try $0.query("SELECT 1") }
        await pool.close()
    }

    @Test func `a connection that was lost while idle is replaced`() async throws {
        let database = try TestDatabase.current
        let pool = Pool(database.settings, limits: Pool.Limits(size: 1, overflow: 0))
        let first = try await pool.withConnection { await $0.serverProcess }
        try await database.execute("SELECT pg_terminate_backend(\(first))")
        try await waitUntil {
            try await database.value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", [first]) == 0
        }
        let second = try await pool.withConnection { connection in
            try await connection.with { _ = try $0.query("SELECT 1") }
            return await connection.serverProcess
        }
        #expect(first != second)
        await pool.close()
    }

    @Test func `a connection that was idle for long is asked whether it is alive before it is lent`() async throws {
        let database = try TestDatabase.current
        let proxy = try FaultProxy(before: database.settings)
        defer { proxy.close() }
        var limits = Pool.Limits(size: 1, overflow: 0)
        limits.checkAfter = .zero
        let pool = Pool(proxy.settings(database.settings), limits: limits)
        let first = try await pool.withConnection { await $0.serverProcess }
        // Nothing is heard of it: neither closed nor answering.
        proxy.muteAll()
        let second = try await pool.with { connection in
            try connection.query("SELECT 1")
            return connection.serverProcess
        }
        #expect(first != second)
        await pool.close()
    }

    @Test func `a connection that comes back in a transaction is not lent again`() async throws {
        let pool = Pool(try TestDatabase.current.settings, limits: Pool.Limits(size: 1, overflow: 0))
        try await pool.with { _ = try $0.execute("BEGIN") }
        #expect(await pool.usage.idle == 0)
        try await pool.with { #expect($0.isInTransaction == false) }
        await pool.close()
        await #expect(throws: PostgresError.self) { try await pool.with { try $0.query("SELECT 1") } }
    }

    @Test func `a pooler is found out, refused where a session is needed, and suited elsewhere`() async throws {
        let database = try TestDatabase.current
        let proxy = try FaultProxy(before: database.settings, posesAsPooler: true)
        defer { proxy.close() }
        let settings = proxy.settings(database.settings)
        let error = await #expect(throws: PostgresError.self) { try await Connection.open(settings) }
        #expect(error?.hint?.contains("direct_url") == true)
        let both = Database(settings)
        try await both.pool.withConnection { #expect(await $0.isPooled) }
        await #expect(throws: PostgresError.self) { try await both.withDirectConnection { _ in } }
        let split = Database(settings, direct: database.settings)
        try await split.withDirectConnection { #expect(await !$0.isPooled) }
        await both.pool.close()
        await split.pool.close()
    }

    @Test func `where a pooler may stand and does not, the session is pinned as any other`() async throws {
        var settings = try TestDatabase.current.settings
        settings.pooling = .detected
        let path = try await Connection.opened(settings) { connection in
            #expect(await !connection.isPooled)
            return try await connection.value("SHOW search_path", as: String.self)
        }
        #expect(path == "pg_catalog, pg_temp")
    }

    @Test func `a pooled connection sets nothing on the session but in each transaction`() async throws {
        var settings = try TestDatabase.current.settings
        settings.pooling = .expected
        settings.lockTimeout = .milliseconds(777)
        let connection = try await Connection.open(settings)
        // A statement by itself is a transaction of its own, which has them; COPY is sent as it is.
        let alone = try await connection.value("SHOW lock_timeout", as: String.self)
        #expect(alone == "777ms")
        #expect(try await connection.value("SHOW search_path", as: String.self) == "pg_catalog, pg_temp")
        let outside = try await connection.with { connection in
            var bytes: [UInt8] = []
            try connection.copyOut("COPY (SELECT pg_catalog.current_setting('lock_timeout')) TO STDOUT") { bytes += $0 }
            return String(decoding: bytes, as: UTF8.self)
        }
        #expect(outside == "0\n")
        let inside = try await connection.with { connection in
            try connection.transaction { try connection.query("SHOW lock_timeout").first?.get(0, as: String.self) }
        }
        #expect(inside == "777ms")
        await #expect(throws: PostgresError.self) { try await connection.with { try $0.listen(to: "x") } }
        await #expect(throws: PostgresError.self) { try await AdvisoryLock("x").acquire(on: connection, wait: .zero) }
        await connection.close()
    }
}
