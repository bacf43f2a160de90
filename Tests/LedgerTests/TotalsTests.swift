import Foundation
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// Totals, retention, and claims whose answer was lost.
@Suite(.database, .timeLimit(.minutes(4)))
struct TotalsTests {
    private func installed() async throws -> TestDatabase {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        return database
    }

    /// The totals as they are, and as the runs say; equal as long as nothing was removed.
    private func compare(_ database: TestDatabase) async throws {
        let differing: Int = try await database.value(
            """
            SELECT count(*) FROM reeve.task_totals t FULL JOIN (
                SELECT task, max(id) AS newest_run, max(started_at) AS last_started_at,
                    max(finished_at) FILTER (WHERE state = 'succeeded') AS last_succeeded_at,
                    count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
                    count(*) FILTER (WHERE state = 'failed') AS failed,
                    count(*) FILTER (WHERE state = 'timed_out') AS timed_out,
                    count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                    count(*) FILTER (WHERE state = 'lost') AS lost
                FROM reeve.runs GROUP BY task) r USING (task)
            WHERE (t.newest_run, t.last_started_at, t.succeeded, t.failed, t.timed_out, t.cancelled, t.lost)
                IS DISTINCT FROM
                (r.newest_run, r.last_started_at, r.succeeded, r.failed, r.timed_out, r.cancelled, r.lost)
                OR t.last_succeeded_at IS DISTINCT FROM r.last_succeeded_at
            """)
        #expect(differing == 0)
    }

    @Test func `an upgrade counts what is there`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(version: 4, on: $0) }
        try await database.execute(
            """
            INSERT INTO reeve.runs (task, reason, state, instance, started_at, finished_at, detail)
            SELECT 't' || n % 3, CASE n % 2 WHEN 0 THEN 'manual' ELSE 'retry' END,
                (ARRAY['succeeded', 'failed', 'timed_out', 'cancelled', 'lost'])[1 + n % 5], 'i',
                now() - n * interval '1 minute', now() - n * interval '1 minute' + interval '5 seconds', '{}'
            FROM generate_series(1, 400) n
            """,
            "INSERT INTO reeve.runs (task, reason, state, instance) VALUES ('t1', 'manual', 'running', 'i')",
            "INSERT INTO reeve.backup_attempts (place) VALUES ('/a'), ('/b'), ('/a')",
            "INSERT INTO reeve.findings (\"check\", system, object_kind, object, property, cleared_at) "
                + "VALUES ('drift', 's', 'table', 'o', 'p', now())")
        try await database.with { try LedgerSchema.install(on: $0) }
        try await compare(database)
        let attempts = try await database.with { try BackupLedger.lastAttempts(on: $0) }
        #expect(Set(attempts.keys) == ["/a", "/b"])
        let counts = try await database.with { try FindingLedger.counts(of: "drift", on: $0) }
        #expect(counts == [FindingLedger.Count(system: "s", objectKind: "table", objects: 0)])
    }

    @Test func `totals are those of the runs, whoever claims, ends, buries or rolls back at once`() async throws {
        let database = try await installed()
        let states: [RunRecord.State] = [.succeeded, .failed, .timedOut, .cancelled]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<6 {
                group.addTask {
                    try await database.with { connection in
                        for number in 0..<25 {
                            let task = "t\((worker + number) % 2)"
                            let claim = try RunLedger.claim(
                                task: task, occurrence: nil, instance: "i\(worker)", lease: .milliseconds(1),
                                on: connection)
                            guard case .granted(let run) = claim else { continue }
                            // A third of them are left to be buried.
                            if number % 3 == 0 { continue }
                            try RunLedger.finish(
                                run: run, states[number % 4], message: "m", on: connection)
                        }
                        try? connection.transaction {
                            try connection.query(
                                """
                                INSERT INTO reeve.runs (task, reason, state, instance)
                                VALUES ('gone', 'manual', 'succeeded', 'i')
                                """)
                            throw CancellationError()
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        try await compare(database)
        // What has ended once is counted once, whoever writes its state again.
        try await database.execute("UPDATE reeve.runs SET state = state WHERE state <> 'running'")
        try await compare(database)
        let gone: Int = try await database.value("SELECT count(*) FROM reeve.task_totals WHERE task = 'gone'")
        #expect(gone == 0)
        // A process that was killed wrote nothing: its transaction is undone with its totals.
        let killed = try await Connection.open(database.settings)
        try await killed.with { connection in
            try connection.execute("BEGIN")
            try connection.execute(
                "INSERT INTO reeve.runs (task, reason, state, instance) VALUES ('t9', 'manual', 'failed', 'i')")
        }
        await killed.close()
        try await compare(database)
    }

    @Test func `what a scrape reads touches neither runs nor attempts nor cleared findings`() async throws {
        let database = try await installed()
        try await database.with { connection in
            for place in ["/a", "/b"] { _ = try BackupLedger.begin(places: [place], on: connection) }
            _ = try RunLedger.claim(task: "t", occurrence: nil, instance: "i", lease: .seconds(60), on: connection)
        }
        try await database.with { connection in
            try connection.transaction {
                _ = try RunLedger.summaries(on: connection)
                _ = try BackupLedger.lastAttempts(on: connection)
                let scans = try connection.query(
                    """
                    SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0)::bigint
                    FROM pg_catalog.pg_stat_xact_all_tables
                    WHERE schemaname = 'reeve' AND relname IN ('runs', 'occurrences', 'events', 'backup_attempts')
                    """
                ).first?.get(0, as: Int.self)
                #expect(scans == 0)
            }
        }
    }

    /// Fills the ledger with 120 days, a run every ten minutes, as fast as the server can.
    private func fill(_ database: TestDatabase) async throws {
        try await database.execute(
            """
            SET session_replication_role = replica;
            INSERT INTO reeve.occurrences (task, due_at, state, claimed_by, claimed_at)
            SELECT 't', now() - n * interval '10 minutes' + interval '1 minute', CASE n % 10 WHEN 0 THEN 'skipped' ELSE 'claimed' END, 'i',
                now() - n * interval '10 minutes'
            FROM generate_series(120 * 144, 1, -1) n;
            -- A task that is long off, with one run; and one that runs since the winter. Before the others, as they were
            -- begun: what is tidied is gone through in that order.
            INSERT INTO reeve.runs (task, reason, state, instance, started_at, finished_at)
            VALUES ('off', 'manual', 'failed', 'i', now() - interval '119 days', now() - interval '119 days');
            INSERT INTO reeve.runs (task, reason, state, instance, started_at, lease_until)
            VALUES ('long', 'manual', 'running', 'i', now() - interval '118 days', 'infinity');
            INSERT INTO reeve.runs (task, occurrence, reason, state, instance, started_at, finished_at)
            SELECT task, due_at, 'scheduled', 'succeeded', 'i', due_at, due_at + interval '1 second'
            FROM reeve.occurrences WHERE state = 'claimed' ORDER BY due_at;
            UPDATE reeve.runs SET occurrence = started_at WHERE task = 'off';
            INSERT INTO reeve.occurrences (task, due_at, state, claimed_by, claimed_at)
            SELECT task, occurrence, 'claimed', 'i', started_at FROM reeve.runs WHERE task = 'off';
            INSERT INTO reeve.events (at, kind, subject)
            SELECT now() - n * interval '10 minutes' + interval '1 minute', 'run.succeeded', 't' FROM generate_series(120 * 144, 1, -1) n;
            INSERT INTO reeve.backup_attempts (place, started_at) VALUES ('/old', now() - interval '121 days');
            INSERT INTO reeve.backup_attempts (place, started_at)
            SELECT '/a', now() - n * interval '1 day' + interval '1 hour' FROM generate_series(120, 1, -1) n;
            INSERT INTO reeve.findings ("check", system, object_kind, object, property, first_seen_at, cleared_at)
            SELECT 'drift', 's', 'table', 'o' || n, 'p', now() - interval '100 days' - n * interval '1 minute',
                CASE WHEN n % 2 = 0 THEN now() - interval '95 days' END
            FROM generate_series(100, 1, -1) n;
            INSERT INTO reeve.runs (task, reason, state, instance, started_at, finished_at)
            VALUES ('long', 'manual', 'failed', 'i', now() - interval '1 day', now());
            INSERT INTO reeve.task_totals (task, newest_run, last_started_at, succeeded, failed)
            SELECT task, max(id), max(started_at), count(*) FILTER (WHERE state = 'succeeded'),
                count(*) FILTER (WHERE state = 'failed') FROM reeve.runs GROUP BY task;
            INSERT INTO reeve.place_totals SELECT place, max(id), max(started_at)
            FROM reeve.backup_attempts GROUP BY place;
            """)
    }

    @Test func `tidying removes what is old, never what runs or is the newest, and no counter falls`() async throws {
        let database = try await installed()
        try await fill(database)
        let before = try await database.with { try RunLedger.summaries(on: $0) }
        let chain = try await database.with { connection in
            try Audit.append(actor: "a", action: "b", subject: "c", on: connection)
            return try Audit.verify(on: connection)
        }
        var retention = LedgerRetention()
        retention.batch = 700
        let removed = try await database.connection { [retention] in try await retention.tidy(on: $0) }
        #expect(removed.runs == 30 * 144 * 9 / 10, "\(removed)")
        #expect(removed.occurrences == 30 * 144, "\(removed)")
        #expect(removed.events == 90 * 144)
        #expect(removed.attempts == 30 && removed.findings == 50, "\(removed)")
        #expect(try await database.with { try RunLedger.summaries(on: $0) } == before)
        #expect(try await database.with { try Audit.verify(on: $0) } == chain)
        let attempts = try await database.with { try BackupLedger.lastAttempts(on: $0) }
        #expect(Set(attempts.keys) == ["/a", "/old"])
        let others = try await database.with { try RunLedger.history(task: "off", on: $0).map(\.state) }
        #expect(others == [.failed])
        let long = try await database.with { try RunLedger.history(task: "long", on: $0).map(\.state) }
        #expect(long == [.failed, .running])
        let open: Int = try await database.value("SELECT count(*) FROM reeve.findings WHERE cleared_at IS NULL")
        #expect(open == 50)
        let again = try await database.connection { [retention] in try await retention.tidy(on: $0) }
        #expect(again == LedgerRetention.Removed())
        let kept: Int = try await database.value("SELECT count(*) FROM reeve.occurrences WHERE task = 'off'")
        #expect(kept == 1, "its run is kept")
        // Whoever keeps more from now on does not have back what is gone.
        retention.runs = .seconds(400 * 86400)
        _ = try await database.connection { [retention] in try await retention.tidy(on: $0) }
        // A process that stood still for months does not run again what is no longer known.
        let old = Timestamp(Date().addingTimeInterval(-100 * 86400))
        let claim = try await database.with {
            try RunLedger.claim(task: "t", occurrence: old, instance: "i", lease: .seconds(60), on: $0)
        }
        #expect(claim == .taken)
    }

    @Test func `tidying beside claims loses no run, and ends between two batches when it is told to`() async throws {
        let database = try await installed()
        try await fill(database)
        var retention = LedgerRetention()
        retention.batch = 50
        let tidying = Task { [retention] in
            try await database.connection { try await retention.tidy(on: $0) }
        }
        try await database.with { connection in
            for number in 0..<100 {
                let due = Timestamp(Date().addingTimeInterval(-5000 + Double(number)))
                guard
                    case .granted(let run) = try RunLedger.claim(
                        task: "busy", occurrence: due, instance: "i", lease: .seconds(60), on: connection)
                else {
                    Issue.record("not granted")
                    return
                }
                try RunLedger.finish(run: run, .succeeded, message: "m", on: connection)
            }
        }
        tidying.cancel()
        _ = try? await tidying.value
        _ = try await database.connection { [retention] in try await retention.tidy(on: $0) }
        let runs: Int = try await database.value("SELECT count(*) FROM reeve.runs WHERE task = 'busy'")
        #expect(runs == 100)
        let total: Int = try await database.value("SELECT succeeded FROM reeve.task_totals WHERE task = 'busy'")
        #expect(total == 100)
    }

    private func claim(
        _ task: String, _ occurrence: Timestamp?, _ wish: UUID, on connection: isolated Connection
    ) throws -> RunLedger.Claim {
        try RunLedger.claim(
            task: task, occurrence: occurrence, instance: "i", lease: .seconds(60), wish: wish, on: connection)
    }

    private func retry(_ due: Timestamp, _ wish: UUID, on connection: isolated Connection) throws -> Int64? {
        try RunLedger.retry(
            task: "scheduled", occurrence: due, attempt: 2, instance: "i", lease: .seconds(60), wish: wish,
            on: connection)
    }

    @Test func `a wish that is asked again is told of its own run, and nobody else is`() async throws {
        let database = try await installed()
        let due = Timestamp(microseconds: 1_700_000_000_000_000)
        try await database.with { connection in
            for occurrence in [due, nil] {
                let task = occurrence == nil ? "by hand" : "scheduled"
                let wish = UUID()
                let first = try claim(task, occurrence, wish, on: connection)
                guard case .granted(let run) = first else {
                    Issue.record("\(first)")
                    return
                }
                // Its lease has passed meanwhile, and nobody has buried it.
                try connection.query("UPDATE reeve.runs SET lease_until = now() - interval '1 s' WHERE id = $1", [run])
                #expect(try claim(task, occurrence, wish, on: connection) == first)
                #expect(try claim(task, occurrence, UUID(), on: connection) == (occurrence == nil ? .overlaps : .taken))
                let skipped = UUID()
                let next = Timestamp(microseconds: due.microseconds + 1_000_000)
                for _ in 0..<2 { #expect(try claim(task, next, skipped, on: connection) == .overlaps) }
                try RunLedger.finish(run: run, .failed, message: "m", on: connection)
                #expect(try claim(task, occurrence, wish, on: connection) != first)
            }
            try connection.execute("UPDATE reeve.runs SET state = 'failed' WHERE state = 'running'")
            let wish = UUID()
            let run = try retry(due, wish, on: connection)
            #expect(try run != nil && retry(due, wish, on: connection) == run)
            #expect(try retry(due, UUID(), on: connection) == nil)
        }
    }

    @Test func `a claim that asks again while its first try commits is told of the run`() async throws {
        let database = try await installed()
        let wish = UUID()
        let due = Timestamp(microseconds: 1_700_000_000_000_000)
        let first = try await Connection.open(database.settings)
        try await first.with { connection in
            try connection.execute("BEGIN")
            try connection.query(
                "INSERT INTO reeve.occurrences (task, due_at, state, claimed_by, claim) VALUES ('t', $1, 'claimed', 'i', $2)",
                [due, wish])
            try connection.query(
                """
                INSERT INTO reeve.runs (task, occurrence, reason, state, instance, lease_until, claim)
                VALUES ('t', $1, 'scheduled', 'running', 'i', now() + interval '1 minute', $2)
                """, [due, wish])
        }
        let asking = Task {
            try await database.with {
                try RunLedger.claim(
                    task: "t", occurrence: due, instance: "i", lease: .seconds(60), wish: wish, on: $0)
            }
        }
        try await waitUntil("the second try waits for the first") { try await database.waitersForLocks() > 0 }
        try await first.with { try $0.execute("COMMIT") }
        await first.close()
        guard case .granted = try await asking.value else {
            Issue.record("its own run was taken for another's")
            return
        }
    }
}

/// What comes from outside, as the ledger keeps it.
@Suite(.database, .timeLimit(.minutes(2)))
struct LedgerTextTests {
    @Test func `NUL, endless marks and torn text make no write fail`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        let torn = String(decoding: [0x61, 0xFF, 0x00, 0xC3], as: UTF8.self)
        let marks = "e" + String(repeating: "\u{0301}", count: 100_000)
        try await database.with { connection in
            let claim = try RunLedger.claim(
                task: torn, occurrence: nil, instance: torn, lease: .seconds(60), on: connection)
            guard case .granted(let run) = claim else {
                Issue.record("\(claim)")
                return
            }
            #expect(try RunLedger.finish(run: run, .failed, message: torn + marks, on: connection))
            let record = try RunLedger.history(run: run, on: connection)[0]
            #expect(record.message?.utf8.starts(with: "a\u{FFFD}\u{FFFD}\u{FFFD}e".utf8) == true)
            #expect((record.message?.utf8.count ?? .max) <= 4003)
            let detail = try JSONText(encoding: ["a\0b": torn, "c": "\\u0000", "d": "\\\0"])
            try Events.record(torn, subject: torn, detail: detail, on: connection)
            try Audit.append(actor: torn, action: torn, subject: torn, detail: detail, on: connection)
            let kept = try connection.query("SELECT detail ->> 'c', detail ->> 'd' FROM reeve.events ORDER BY id DESC")[
                0]
            #expect(try kept.get(0) == "\\u0000" && kept.get(1) == "\\\u{FFFD}")
            let finding = FindingRecord(
                system: torn, objectKind: torn, object: torn, property: torn, expected: torn, found: marks)
            #expect(try FindingLedger.record([finding], of: "drift", on: connection).new.count == 1)
            let attempt = try BackupLedger.begin(places: [torn], on: connection)
            try BackupLedger.finish(attempt[0], failure: torn + marks, on: connection)
            #expect(try Audit.verify(on: connection).isIntact)
        }
    }

    @Test func `what tells of rows is left out of messages`() {
        let said = """
            pg_restore: error: COPY failed for table "t": ERROR:  duplicate key value violates unique constraint "t_pkey"
            DETAIL:  Key (mail)=(anna@example.org
            hint: secret) already exists.
            CONTEXT:  COPY t, line 1
            """
        #expect(LedgerText.message(said).hasSuffix("unique constraint \"t_pkey\""))
        #expect(LedgerText.message("failed\n  detail: Key (a)=(1)") == "failed")
        #expect(LedgerText.message("two\nlines of detail: here") == "two\nlines of detail: here")
    }
}

@Suite(.database, .timeLimit(.minutes(2)))
struct FindingLockTests {
    private let finding = FindingRecord(
        system: nil, objectKind: "table", object: "a", property: "p", expected: nil, found: nil)

    @Test func `a lock that any role can take holds up no findings`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        try await database.connection { other in
            _ = try await other.with {
                try $0.query("SELECT pg_advisory_lock(hashtext('reeve findings'), hashtext('drift'))")
            }
            let change = try await database.connection { connection in
                try await connection.with(within: .seconds(10)) {
                    try FindingLedger.record([finding], of: "drift", on: $0)
                }
            }
            #expect(change.new.count == 1)
        }
    }

    @Test func `a lock's key is none that can be told from its name, and another in every ledger`() async throws {
        let database = try TestDatabase.current
        let without = try await database.with { try LedgerLock.named("reeve backup", on: $0) }
        try await database.with { try LedgerSchema.install(on: $0) }
        let first = try await database.with { try LedgerLock.named("reeve backup", on: $0) }
        try await database.execute("UPDATE reeve.ledger SET estate = gen_random_uuid()")
        let second = try await database.with { try LedgerLock.named("reeve backup", on: $0) }
        #expect(without.key == AdvisoryLock("reeve backup").key)
        #expect(Set([without.key, first.key, second.key]).count == 3)
    }

    @Test func `who records the same findings for too long is named`() async throws {
        let database = try TestDatabase.current
        try await database.with { try LedgerSchema.install(on: $0) }
        _ = try await database.with { try FindingLedger.record([], of: "drift", on: $0) }
        try await database.connection { holder in
            let process = try await holder.with { connection in
                try connection.execute("BEGIN; UPDATE reeve.checks SET recorded_at = now()")
                return connection.serverProcess
            }
            let error = await #expect(throws: LedgerError.self) {
                try await database.with {
                    try FindingLedger.record([finding], of: "drift", patience: .milliseconds(200), on: $0)
                }
            }
            #expect(error?.description.contains("process \(process) of") == true, "\(String(describing: error))")
            let other = try await database.with { try FindingLedger.record([finding], of: "other", on: $0) }
            #expect(other.new.count == 1)
        }
    }
}
