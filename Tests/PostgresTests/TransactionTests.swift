import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

@Suite(.database, .timeLimit(.minutes(2)))
struct TransactionTests {
    @Test func `a transaction is kept when its body returns and undone when it throws`() async throws {
        struct Stop: Error {}
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE TABLE t (a int)")
            try connection.transaction { try connection.execute("INSERT INTO t VALUES (1)") }
            #expect(throws: Stop.self) {
                try connection.transaction {
                    try connection.execute("INSERT INTO t VALUES (2)")
                    throw Stop()
                }
            }
            #expect(connection.isInTransaction == false)
            #expect(try connection.query("SELECT array_agg(a) FROM t").first?.get(0, as: [Int].self) == [1])
        }
    }

    @Test func `who holds an exclusive lock is named, a prepared transaction by its identifier`() async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "CREATE TABLE public.t ()", "CREATE TABLE public.u ()", "CREATE SCHEMA s",
            "CREATE SCHEMA s2", "CREATE SCHEMA s3")
        try await Connection.opened(database.settings) { holder in
            try await holder.with { holder in
                try holder.execute("BEGIN; LOCK TABLE public.t; PREPARE TRANSACTION '\(database.name)'")
                try holder.execute("BEGIN; DROP SCHEMA s; PREPARE TRANSACTION '\(database.name)_2'")
                try holder.execute("BEGIN; LOCK TABLE public.u; SAVEPOINT a; ALTER SCHEMA s3 RENAME TO s4")
            }
            let locker = try await Connection.open(database.settings)
            try await locker.with {
                try $0.execute("BEGIN; SELECT FROM pg_namespace WHERE nspname = 's2' FOR KEY SHARE")
            }
            let told = try await database.with { try LockHolders.read(on: $0) }
            await locker.close()
            #expect(told.count == 4, "\(told)")
            #expect(told.contains { $0.hasPrefix("process ") && $0.hasSuffix(": schema s3") })
            #expect(told.contains { $0.hasPrefix("the prepared transaction") && $0.hasSuffix(": schema s") })
            #expect(
                told.contains {
                    $0.hasPrefix("the prepared transaction '\(database.name)' of") && $0.hasSuffix(": public.t")
                })
            #expect(told.contains { $0.hasPrefix("process ") && $0.hasSuffix("idle in transaction: public.u") })
            let error = try await database.with { connection in
                #expect(throws: PostgresError.self) {
                    try connection.execute("SET lock_timeout = '10ms'; SELECT FROM public.t")
                }.map { LockHolders.explained($0, on: connection) }
            }
            #expect(error?.hint?.contains("prepared transaction") == true)
            try await holder.with {
                try $0.execute("ROLLBACK")
                try $0.execute("ROLLBACK PREPARED '\(database.name)'")
                try $0.execute("ROLLBACK PREPARED '\(database.name)_2'")
            }
        }
    }

    @Test func `a savepoint undoes its part alone`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE TABLE t (a int UNIQUE)")
            try connection.transaction {
                try connection.execute("INSERT INTO t VALUES (1)")
                #expect(throws: PostgresError.self) {
                    try connection.savepoint { try connection.execute("INSERT INTO t VALUES (1)") }
                }
                try connection.savepoint {
                    try connection.execute("INSERT INTO t VALUES (2)")
                    try connection.savepoint { try connection.execute("INSERT INTO t VALUES (3)") }
                }
            }
            #expect(try connection.query("SELECT count(*) FROM t").first?.get(0, as: Int.self) == 3)
        }
    }

    @Test func `isolation, read only and time limits are the transaction's`() async throws {
        try await TestDatabase.current.with { connection in
            var options = TransactionOptions(isolation: .serializable, readOnly: true)
            options.lockTimeout = .milliseconds(1234)
            try connection.transaction(options) {
                let row = try #require(
                    try connection.query(
                        "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('lock_timeout')"
                    ).first)
                let values = try (0..<3).map { try row.get($0, as: String.self) }
                #expect(values == ["serializable", "on", "1234ms"])
            }
            #expect(try connection.query("SHOW lock_timeout").first?.get(0, as: String.self) == "0")
        }
    }

    @Test func `a failed deferred constraint at COMMIT is an error`() async throws {
        try await TestDatabase.current.with { connection in
            try connection.execute(
                "CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
            let error = #expect(throws: PostgresError.self) {
                try connection.transaction { try connection.execute("INSERT INTO t VALUES (1, 2)") }
            }
            #expect(error?.sqlState == "23503")
            #expect(connection.isInTransaction == false)
        }
    }

    @Test func `a swallowed error is not committed in silence`() async throws {
        try await TestDatabase.current.with { connection in
            #expect(throws: PostgresError.self) {
                try connection.transaction { _ = try? connection.execute("SELECT 1/0") }
            }
        }
    }

    @Test func `a cancelled transaction is rolled back`() async throws {
        let database = try TestDatabase.current
        try await database.execute("CREATE TABLE t (a int)")
        try await database.connection { connection in
            let work = Task {
                try await connection.with { connection in
                    try connection.transaction {
                        try connection.execute("INSERT INTO t VALUES (1)")
                        try connection.execute("SELECT pg_sleep(60)")
                    }
                }
            }
            try await waitUntil {
                try await database.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
                ) == 1
            }
            work.cancel()
            await #expect(throws: CancellationError.self) { try await work.value }
            #expect(await connection.isInTransaction == false)
            let count = try await connection.value("SELECT count(*) FROM t", as: Int.self)
            #expect(count == 0)
        }
    }

    @Test func `notifications arrive, and none is an empty answer`() async throws {
        let database = try TestDatabase.current
        try await database.connection { listener in
            try await listener.with { try $0.listen(to: "News; of today") }
            let none = try await listener.with { try $0.notifications(within: .milliseconds(10)) }
            #expect(none.isEmpty)
            try await database.execute("NOTIFY \"News; of today\", 'hello'")
            let arrived = try await listener.with { try $0.notifications(within: .seconds(10)) }
            #expect(arrived.map(\.payload) == ["hello"])
        }
    }

    @Test func `an advisory lock is one session's, and whoever waits is told by whom`() async throws {
        let database = try TestDatabase.current
        let lock = AdvisoryLock("test lock")
        let told = Gathered<Int?>()
        try await database.connection { first in
            try await database.connection { second in
                #expect(try await lock.acquire(on: first, wait: .zero))
                #expect(try await lock.acquire(on: second, wait: .zero) == false)
                let holder = try await lock.holder(on: second)
                #expect(holder?.process == (await first.serverProcess))
                let waiting = Task {
                    try await lock.acquire(on: second, wait: .seconds(20)) { holder in
                        told.add([holder?.process])
                    }
                }
                try await waitUntil("it is told") { !told.all.isEmpty }
                let process = await first.serverProcess
                #expect(told.all == [process])
                try await lock.release(on: first)
                #expect(try await waiting.value)
            }
        }
    }

    @Test func `a script's error tells line, column and the line itself`() async throws {
        let sql = "CREATE TABLE t (a int);\n-- ä\nSELECT 'ö',\n   nope FROM t;\n"
        let source = Array(sql.utf8)
        let statement = try SQLLexer.split(source)[1]
        try await TestDatabase.current.with { connection in
            try connection.execute("CREATE TABLE t (a int)")
            let error = #expect(throws: PostgresError.self) {
                do {
                    try connection.execute(String(decoding: source[statement.range], as: UTF8.self))
                } catch let error as PostgresError {
                    throw error.located(in: statement, of: source, file: "x.sql")
                }
            }
            #expect(error?.excerpt?.location == "x.sql:4:4")
            #expect(error?.excerpt?.text == "   nope FROM t;")
        }
    }
}
