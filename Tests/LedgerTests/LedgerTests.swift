import Foundation
import Postgres
import TestSupport
import Testing

@testable import Ledger

@Suite(.database, .timeLimit(.minutes(8)))
struct LedgerTests {
    @Test func `migrations are recorded beside a publication of all tables`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(version: 7, on: $0) }
        try await database.execute(
            "CREATE PUBLICATION everything FOR ALL TABLES",
            "INSERT INTO reeve.systems (system, schema, made_schema) VALUES ('s', 's', false)",
            """
            INSERT INTO reeve.migrations (system, version, name, token_digest, text_digest, source, state)
            VALUES ('s', 1, 'n', '', '', '', 'applying')
            """)
        await #expect(throws: PostgresError.self) {
            try await database.execute("UPDATE reeve.migrations SET state = 'applied'")
        }
        try await database.with { try LedgerSchema.install(on: $0) }
        try await database.execute("UPDATE reeve.migrations SET state = 'applied'", "DELETE FROM reeve.migrations")
    }

    @Test func `many that make the ledger at once make it once`() async throws {
        let database = try TestDatabase.current
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<12 { group.addTask { try await database.with { try LedgerSchema.install(on: $0) } } }
            try await group.waitForAll()
        }
        let version = try await database.with { try LedgerSchema.installedVersion(on: $0) }
        #expect(version == LedgerSchema.version)
    }

    @Test func `reading makes nothing`() async throws {
        let installed = try await TestDatabase.current.with { try LedgerSchema.isInstalled(on: $0) }
        #expect(!installed)
        let schemas: Int = try await TestDatabase.current.value(
            "SELECT count(*) FROM pg_namespace WHERE nspname = 'reeve'")
        #expect(schemas == 0)
    }

    @Test func `a backup that is told of twice is recorded once`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        for _ in 1...2 {
            try await database.with { connection in
                let attempts = try BackupLedger.begin(places: ["/p"], on: connection)
                let time = Timestamp(microseconds: 1_767_225_600_000_000)
                try BackupLedger.record(
                    BackupLedger.Entry(id: "x", bytes: 1, startedAt: time, finishedAt: time, manifest: "m"),
                    places: [Self.place("/p")],
                    actor: "me", on: connection)
                // What is finished stays as it was told.
                for attempt in attempts { try BackupLedger.finish(attempt, failure: nil, on: connection) }
                for attempt in attempts { try BackupLedger.finish(attempt, failure: "late", on: connection) }
            }
        }
        let entries: Int = try await database.value(
            "SELECT count(*) FROM reeve.audit WHERE entry LIKE '%backup.created%'")
        let events: Int = try await database.value("SELECT count(*) FROM reeve.events WHERE kind = 'backup.created'")
        let failed: Int = try await database.value("SELECT count(*) FROM reeve.backup_attempts WHERE NOT succeeded")
        #expect(entries == 1 && events == 1 && failed == 0)
    }

    private func entry(_ id: String, at time: Timestamp = .now) -> BackupLedger.Entry {
        BackupLedger.Entry(id: id, bytes: 1, startedAt: time, finishedAt: time, manifest: "m")
    }

    private static func place(_ address: String) -> BackupLedger.Place {
        BackupLedger.Place(address, repository: "r")
    }

    private func result(differences: Int, at time: Timestamp = .now) -> BackupLedger.TestResult {
        BackupLedger.TestResult(
            testedAt: time, restoreSeconds: 1, differences: differences, mismatchedTables: differences)
    }

    @Test func `the newest restore test decides whether a backup is proven`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let backup = entry("x")
        for (differences, isProven) in [(1, false), (0, true), (1, false)] {
            let record = try await database.with { connection in
                try BackupLedger.prove(
                    backup, place: Self.place("/p"), result(differences: differences), actor: "me", on: connection)
                return try BackupLedger.records(on: connection).first
            }
            #expect(record?.differences == differences && (record?.provenAt != nil) == isProven, "\(record as Any)")
        }
    }

    @Test func `a backup of the future is not recorded`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        // The clocks of machines differ a little.
        let planted = entry("planted", at: .now - .seconds(-7200))
        let ahead = entry("ahead", at: .now - .seconds(-1800))
        let found = try await database.with { connection in
            for one in [planted, ahead] {
                try BackupLedger.find(one, place: Self.place("/p"), actor: "me", on: connection)
            }
            return try BackupLedger.records(on: connection).map(\.id)
        }
        #expect(found == ["ahead"])
    }

    @Test func `a backup that is forgotten in one place stays recorded in the other`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let backup = entry("x")
        let records = try await database.with { connection in
            try BackupLedger.record(backup, places: [Self.place("/a"), Self.place("/b")], actor: "me", on: connection)
            try BackupLedger.prove(
                backup, place: Self.place("/b"), result(differences: 0), actor: "me", on: connection)
            try BackupLedger.forget(id: "x", place: "/a", actor: "me", on: connection)
            return try BackupLedger.records(on: connection)
        }
        #expect(records.map(\.place) == ["/b"] && records.first?.provenAt != nil, "\(records)")
    }

    @Test func `concurrent writers make one chain, and a change, a gap or a cut end shows where`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<8 {
                group.addTask {
                    try await database.with { connection in
                        for number in 0..<10 {
                            try connection.transaction {
                                try Audit.append(
                                    actor: "writer \(writer)", action: "test.wrote", subject: "entry \(number)",
                                    on: connection)
                            }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let whole = try await database.with { try Audit.verify(on: $0) }
        #expect(whole.isIntact && whole.entries == 80)

        await #expect(throws: PostgresError.self) { try await database.execute("UPDATE reeve.audit SET entry = 'x'") }
        await #expect(throws: PostgresError.self) { try await database.execute("DELETE FROM reeve.audit") }
        await #expect(throws: PostgresError.self) { try await database.execute("TRUNCATE reeve.audit") }

        // Whoever has the right to switch the guard off is still found out.
        func damaged(_ sql: String) async throws -> Int64? {
            try await database.with { connection in
                try connection.execute("ALTER TABLE reeve.audit DISABLE TRIGGER USER")
                defer { _ = try? connection.execute("ROLLBACK") }
                try connection.execute("CREATE TEMP TABLE saved AS TABLE reeve.audit")
                try connection.execute(sql)
                let broken = try Audit.verify(on: connection).brokenAt
                try connection.execute("DELETE FROM reeve.audit; INSERT INTO reeve.audit TABLE saved; DROP TABLE saved")
                return broken
            }
        }
        #expect(
            try await damaged("UPDATE reeve.audit SET entry = replace(entry, 'writer', 'Writer') WHERE seq = 17") == 17)
        #expect(try await damaged("DELETE FROM reeve.audit WHERE seq = 30") == 30)
        #expect(try await damaged("DELETE FROM reeve.audit WHERE seq > 75") == 76)
        #expect(try await damaged("UPDATE reeve.audit SET hash = sha256(previous || convert_to(entry, 'UTF8'))") == nil)
    }

    @Test func `an occurrence is claimed once, a run at a time, and a lost one is buried`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let due = Timestamp(microseconds: 1_700_000_000_000_000)
        let claims = try await withThrowingTaskGroup(of: RunLedger.Claim.self) { group in
            for number in 0..<10 {
                group.addTask {
                    try await database.with {
                        try RunLedger.claim(
                            task: "t", occurrence: due, instance: "i\(number)", lease: .seconds(60), on: $0)
                    }
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let granted = claims.compactMap { if case .granted(let run) = $0 { run } else { nil } }
        #expect(granted.count == 1)
        #expect(claims.count { $0 == .taken } == 9)
        try await database.with { connection in
            let next = Timestamp(microseconds: due.microseconds + 60_000_000)
            #expect(
                try RunLedger.claim(task: "t", occurrence: next, instance: "x", lease: .seconds(60), on: connection)
                    == .overlaps)
            // Its process died: the lease passes without a sign of life.
            try connection.execute("UPDATE reeve.runs SET lease_until = now() - interval '1 second'")
            let third = Timestamp(microseconds: due.microseconds + 120_000_000)
            guard
                case .granted(let run) = try RunLedger.claim(
                    task: "t", occurrence: third, instance: "x", lease: .seconds(60), on: connection)
            else {
                Issue.record("the lost run still blocks")
                return
            }
            #expect(try RunLedger.renew(run: granted[0], lease: .seconds(60), on: connection) == false)
            #expect(try RunLedger.finish(run: granted[0], .succeeded, message: "late", on: connection) == false)
            #expect(try RunLedger.finish(run: run, .succeeded, message: "fine", on: connection))
            let states = try RunLedger.history(on: connection).map(\.state)
            #expect(states == [.succeeded, .lost])
            let future = Timestamp(Date().addingTimeInterval(3600))
            guard
                case .early(let seconds) = try RunLedger.claim(
                    task: "t", occurrence: future, instance: "x", lease: .seconds(60), on: connection)
            else {
                Issue.record("claimed before it was due")
                return
            }
            #expect((3500...3600).contains(seconds))
        }
    }
}

/// Tables of features in the ledger.
@Suite(.database, .timeLimit(.minutes(2)))
struct LedgerPartTests {
    private let parts = [LedgerPart("toys", ["CREATE TABLE reeve.toys (a int);", "ALTER TABLE reeve.toys ADD b int;"])]

    @Test func `versions of parts that are not known stay`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await database.execute("UPDATE reeve.ledger SET parts = '{\"other\": 2}'")
        try await LedgerPart.$all.withValue(parts) { try await database.with { try LedgerSchema.install(on: $0) } }
        let found: String = try await database.value("SELECT parts::text FROM reeve.ledger")
        #expect(found == #"{"toys": 2, "other": 2}"#)
    }

    @Test func `sixteen upgrade an older ledger, one after the other`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(version: 5, on: $0) }
        let began = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<16 { group.addTask { try await database.with { try LedgerSchema.install(on: $0) } } }
            try await group.waitForAll()
        }
        #expect(try await database.with { try LedgerSchema.installedVersion(on: $0) } == LedgerSchema.version)
        // None was given up by the server for a deadlock, which it finds after a second.
        let deadlocks: Int = try await database.value(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        #expect(deadlocks == 0, "\(ContinuousClock.now - began)")
    }

    @Test func `a ledger that becomes too new while one waits is left alone`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(version: 5, on: $0) }
        try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; LOCK TABLE reeve.ledger IN ROW EXCLUSIVE MODE") }
            let waiting = Task { try await database.with { try LedgerSchema.install(on: $0) } }
            try await waitUntil("it waits") { try await database.waitersForLocks() == 1 }
            try await holder.with { try $0.execute("UPDATE reeve.ledger SET version = 99; COMMIT") }
            let error = await #expect(throws: LedgerError.self) { try await waiting.value }
            guard case .newer(nil, 99, LedgerSchema.version)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }
}

@Suite(.database, .timeLimit(.minutes(8)))
struct FindingLedgerTests {
    private func record(_ findings: [FindingRecord]) async throws -> FindingLedger.Change {
        try await TestDatabase.current.with { try FindingLedger.record(findings, of: "drift", on: $0) }
    }

    private func finding(_ object: String, found: String = "x", system: String? = "app") -> FindingRecord {
        FindingRecord(
            system: system, objectKind: "table", object: object, property: "comment", expected: nil, found: found)
    }

    @Test func `a record that waited for another one is the later of the two`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        _ = try await record([])
        let waiting = try await database.connection { other in
            try await other.with { _ = try $0.execute("BEGIN; SELECT FROM reeve.checks FOR UPDATE") }
            let waiting = Task { try await self.record([]) }
            try await waitUntil("its transaction has begun") {
                try await database.value(
                    """
                    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND query LIKE '%FOR UPDATE SKIP LOCKED%' AND pid <> pg_backend_pid()
                    """) == 1
            }
            // What the other one finds while it has the lock.
            try await other.with {
                _ = try $0.execute(
                    """
                    INSERT INTO reeve.findings ("check", system, object_kind, object, property, first_seen_at, last_seen_at)
                    VALUES ('drift', '', 'table', 'x', 'there', clock_timestamp(), clock_timestamp());
                    COMMIT
                    """)
            }
            return waiting
        }
        #expect(try await waiting.value.cleared == 1)
    }

    @Test func `what is found is new once, and cleared when it is gone`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let first = try await record([finding("a"), finding("b"), finding("c", system: nil)])
        #expect(first.new.count == 3 && first.cleared == 0)
        let second = try await record([finding("a", found: "y"), finding("c", system: nil)])
        #expect(second.new.isEmpty && second.cleared == 1)
        let counts = try await database.with { try FindingLedger.counts(of: "drift", on: $0) }
        #expect(counts.first { $0.system == "app" }?.objects == 1)
        #expect(counts.first { $0.system == nil }?.objects == 1)
        let third = try await record([finding("b")])
        #expect(third.new == [finding("b")] && third.cleared == 2)
        let rows: Int = try await database.value("SELECT count(*) FROM reeve.findings WHERE object = 'b'")
        #expect(rows == 2)
        let events: Int = try await database.value("SELECT count(*) FROM reeve.events WHERE kind = 'drift.changed'")
        #expect(events == 3)
    }

    @Test func `several at once agree`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { _ = try await record([finding("a"), finding("b")]) } }
            try await group.waitForAll()
        }
        let open: Int = try await database.value("SELECT count(*) FROM reeve.findings WHERE cleared_at IS NULL")
        #expect(open == 2)
    }

    @Test func `an older ledger is read as it is and brought up to date`() async throws {
        let database = try TestDatabase.current
        try await database.with { connection in
            try LedgerSchema.install(version: 1, on: connection)
        }
        let readable = try await database.with { try LedgerSchema.isInstalled(on: $0) }
        #expect(readable)
        try await database.with { try LedgerSchema.install(on: $0) }
        let change = try await record([finding("a")])
        #expect(change.new.count == 1)
        let version = try await database.with { try LedgerSchema.installedVersion(on: $0) }
        #expect(version == LedgerSchema.version)
    }
}
