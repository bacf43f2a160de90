import AdminHTTP
import Backups
import Foundation
import Ledger
import Postgres
import Reporting
import Scheduling
import Storage
import TestSupport
import Testing

@testable import Auditing
@testable import Catalog
@testable import Kernel
@testable import Migrations
@testable import Processes
@testable import ReeveApp

/// The code, the exit status and the hint of each error, on which scripts and people depend.
@Suite struct ErrorReportTests {
    private typealias Table<E: ReportedError> = [(error: E, exit: ExitCode, hint: String?)]

    /// Compares reports with a table, and the exit statuses in the table with those that the type lists.
    private func check<E: ReportedError>(_ type: E.Type, _ code: String, _ table: Table<E>) {
        for (error, exit, hint) in table {
            let report = ErrorReport(error)
            #expect(report.code == code, "\(error)")
            #expect(report.exitCode == exit, "\(error)")
            #expect(report.hint == hint, "\(error)")
            #expect(report.message == error.description)
        }
        let listed = E.codes.first { $0.name == code }?.exitCodes ?? []
        #expect(Set(listed) == Set(table.map(\.exit)), "\(E.self)")
    }

    @Test func `errors of the command line and the configuration`() {
        check(UsageError.self, "usage", [(UsageError("x", hint: "y"), .usage, "y"), (UsageError("x"), .usage, nil)])
        check(
            ConfigurationError.self, "configuration",
            [
                (ConfigurationError("f", 1, "x", hint: "y"), .usage, "y"),
                (ConfigurationError("f", nil, "x"), .usage, nil),
            ]
        )
        check(
            ConfirmationNeeded.self, "confirmation_needed",
            [(ConfirmationNeeded(what: "x", name: "app"), .confirmationNeeded, "confirm with --confirm=app")])
    }

    @Test func `errors of PostgreSQL`() {
        let whereFrom = "'reeve config show' shows the origin of the address"
        let kinds: [(kind: PostgresError.Kind, exit: ExitCode, hint: String?)] = [
            (.server, .failed, nil), (.cannotConnect, .temporary, whereFrom), (.connectionLost, .temporary, nil),
            (.timedOut, .failed, nil), (.commitOutcomeUnknown, .failed, nil), (.badValue, .failed, nil),
            (.resultTooLarge, .failed, nil), (.misuse, .failed, nil),
            (.configuration, .usage, nil), (.poolExhausted, .temporary, nil),
        ]
        check(PostgresError.self, "postgres", kinds.map { (PostgresError($0.kind, "x"), $0.exit, $0.hint) })
        // The error's own hint has precedence.
        check(
            PostgresError.self, "postgres", kinds.map { (PostgresError($0.kind, "x", hint: "y"), $0.exit, "y") })
        let states: [(state: String, exit: ExitCode)] = [
            ("42P01", .failed), ("57014", .failed), ("42501", .notPermitted), ("40001", .temporary),
            ("40P01", .temporary), ("55P03", .temporary), ("53300", .temporary), ("57P01", .temporary),
            ("57P02", .temporary), ("57P03", .temporary), ("08006", .temporary),
        ]
        for (state, exit) in states {
            let report = ErrorReport(PostgresError(.server, "x", sqlState: state))
            #expect(report == ErrorReport("x (SQLSTATE \(state))", code: state, exitCode: exit))
        }
        let listed = PostgresError.codes.first { $0.name == ErrorCode.sqlState }?.exitCodes ?? []
        #expect(Set(listed) == Set(states.map(\.exit)))
        let refused = ErrorReport(PostgresError(.cannotConnect, "x", sqlState: "28P01"))
        #expect(refused.code == "28P01" && refused.exitCode == .temporary && refused.hint == whereFrom)
    }

    @Test func `errors of the embedded cluster`() {
        check(
            EmbeddedClusterError.self, "embedded_cluster",
            [
                (
                    .noServer, .failed,
                    "install it: sudo apt-get install postgresql (or brew install postgresql)"
                ),
                (.notOurs(folder: "f"), .failed, "set REEVE_STATE to another folder, or rename this folder"),
                (
                    .otherVersion(folder: "f", made: 14, installed: [15]), .failed,
                    "install PostgreSQL 14, or rename the folder to start with an empty cluster"
                ),
                (.folder("f", reason: "x"), .failed, "set REEVE_STATE to another folder"),
                (
                    .notEnterable(folder: "f", user: "u"), .failed,
                    "set REEVE_STATE to a folder that every user may access, for example /var/lib/reeve"
                ),
                (.busy(lock: "l"), .failed, "try again when that process has finished"),
                (.program("initdb", output: "x"), .failed, nil),
            ])
    }

    @Test func `errors of the ledger and its audit chain`() {
        let again = "try again, or end a hanging session with pg_terminate_backend"
        check(
            LedgerError.self, "ledger",
            [
                (
                    .newer(found: 9, known: 5), .failed,
                    "use the newer version of reeve that has upgraded this ledger"
                ),
                (.busy(holder: nil), .locked, again), (.recording(check: "c", holder: nil), .locked, again),
                (
                    .ofOther(owner: "o", role: "r"), .notPermitted,
                    "connect as 'o', if that role made the ledger; a role does not run functions of others"
                ),
                (
                    .foreign(["x"]), .notPermitted,
                    "find out who created these objects, for example a newer reeve; then drop them, connect as their "
                        + "owner, or make one role the owner of the schema and all its objects (ALTER SCHEMA reeve "
                        + "OWNER TO …, and the same for its tables and functions)"
                ),
            ])
        let elsewhere = "wait for the next run, which tries again; other places may have the anchor"
        check(
            AuditError.self, "audit",
            [
                (
                    .file("f", reason: "x"), .usage,
                    "correct the owner and mode of the file (chown, chmod 600) or folder (chown, chmod go-w), or set "
                        + "'audit.key', 'backup.signing_key' or 'state' to another path"
                ),
                (
                    .notAKey("f"), .usage,
                    "restore the key from a copy; a new key cannot verify what was signed with the old one"
                ),
                (
                    .contradicted(database: "d", reason: "x"), .finding,
                    "run 'reeve audit verify' for details; if the contradiction is expected, for example after a "
                        + "restore, run 'reeve audit anchor --accept=REASON'"
                ),
                (.notWritten([("p", "x")]), .failed, elsewhere),
                (.late(place: "p", limit: .seconds(1)), .failed, elsewhere),
                (.noLedger(database: "d"), .usage, "create the ledger with 'reeve migrate up'"),
                (.emptied(backups: 2), .failed, "check that the disk of this place is mounted"),
            ])
    }

    @Test func `of several statuses the one that tells most counts`() {
        #expect(ExitCode.worst(of: []) == .done)
        #expect(ExitCode.worst(of: [.done, .temporary, .finding]) == .temporary)
        #expect(ExitCode.worst(of: [.temporary, .failed, .done]) == .failed)
        #expect(ExitCode.worst(of: [.finding, .done]) == .finding)
        for code in ExitCode.allCases { #expect(ExitCode.worst(of: [.done, code]) == code) }
    }

    @Test func `errors of migrations`() {
        let blocker = Blocker(process: 7, user: "u", state: "active", query: "SELECT 1", seconds: nil)
        check(
            MigrationError.self, "migration",
            [
                (.unreadable(path: "p", reason: "x"), .failed, nil),
                (
                    .badFileName(path: "p"), .failed,
                    "name it VERSION_name.up.sql, VERSION_name.down.sql, VERSION_name.sql, R__name.sql or R__name.down.sql; a version has up to 18 digits"
                ),
                (.badDirective(location: "p:1", "x", hint: "y"), .failed, "y"),
                (.downWithoutUp(path: "p"), .failed, "give both files the same version and name"),
                (.duplicateVersion("a", "b"), .failed, "give one of them the next free version"),
                (.missingRequirement(system: "s", requirement: "r"), .failed, "add 'r' to the systems"),
                (.requirementCycle(["a", "b"]), .failed, nil),
                (
                    .requiredByOthers(system: "s", others: ["a", "b"]), .failed,
                    "revert a, b first, with 'reeve migrate down'"
                ),
                (
                    .changed(
                        system: "s", title: "0001_t", applied: [1], file: [2], path: "p", difference: nil,
                        revertTo: nil), .failed,
                    "restore the file as it was, and make the change in a new migration after 0001_t"
                ),
                (.renamed(system: "s", version: 1, applied: "a", file: "b"), .failed, "change the name back to 'a'"),
                (
                    .missingFile(system: "s", title: "t"), .failed,
                    "restore the file; to undo a migration, run 'reeve migrate down' while its files exist"
                ),
                (
                    .outOfOrder(system: "s", title: "t", applied: 2), .failed,
                    "give it the next free version, or apply it out of order with --out-of-order"
                ),
                (
                    .noWayDown(system: "s", title: "t"), .failed,
                    "write a .down.sql file or a part '-- reeve: down', or restore a backup"
                ),
                (.unknownVersion(system: "s", version: 1), .failed, "list the versions with 'reeve migrate status'"),
                (
                    .transactionControl(location: "p:1", statement: "COMMIT", isAutocommit: false), .failed,
                    "remove the statement; BEGIN and COMMIT are allowed around the whole file, and in a file with '-- reeve: no-transaction'"
                ),
                (
                    .transactionControl(location: "p:1", statement: "COMMIT", isAutocommit: true), .failed,
                    "use only BEGIN … COMMIT, without options, around statements that can run in a transaction"
                ),
                (
                    .badEncoding(location: "p:1", "x", hint: "save the file in UTF-8"), .failed,
                    "save the file in UTF-8"
                ),
                (
                    .badParts(location: "p:1"), .failed,
                    "write '-- reeve: up' once, and after it '-- reeve: down' once"
                ),
                (
                    .empty(system: "s", title: "t", path: "p"), .failed,
                    "write the statements, or apply it as it is with --allow-empty"
                ),
                (
                    .temporaryLost(location: "p:1", system: "s", title: "t"), .failed,
                    "run the remaining statements by hand, then record the migration with 'reeve migrate baseline'"
                ),
                (
                    .stopped(done: [], word: "applied", standing: nil, cause: .stepsInRepeatable(path: "p")), .failed,
                    "move the statement to a versioned migration"
                ),
                (.stepsInRepeatable(path: "p"), .failed, "move the statement to a versioned migration"),
                (
                    .otherSchema(system: "s", recorded: "a", configured: "b"), .failed,
                    "configure schema 'a' for the system again, or revert the system first with 'reeve migrate down'"
                ),
                (
                    .stepsChanged(system: "s", title: "t", step: 0), .failed,
                    "restore the file as it was when the run was interrupted"
                ),
                (
                    .halfReverted(system: "s", title: "t"), .failed,
                    "run 'reeve migrate down --system s' again, then 'up'"
                ),
                (
                    .invalidIndex(name: "i", location: "p:1", dropStatement: "DROP INDEX CONCURRENTLY a.i"), .failed,
                    "run DROP INDEX CONCURRENTLY a.i, then 'reeve migrate up' again"
                ),
                (
                    .notReplayed(system: "s", title: "1_a", cause: PostgresError(.server, "x")), .failed,
                    "the database itself was not changed; if the migration depends on data or objects that the "
                        + "migrations do not create, commit schema.snapshot and set validate.scratch to never"
                ),
                (
                    .openTables(system: "s", schema: "a", roles: ["r", "PUBLIC"]), .notPermitted,
                    "connect as the role that owns the schema, or REVOKE TRIGGER ON ALL TABLES IN SCHEMA \"a\" FROM "
                        + "\"r\", PUBLIC (also in ALTER DEFAULT PRIVILEGES) and drop triggers of theirs, or trust them with the setting trusted_roles"
                ),
                (
                    .openSchema(system: "s", schema: "a", roles: ["r"]), .notPermitted,
                    "connect as the role that owns the schema, or REVOKE CREATE ON SCHEMA \"a\" and make the migrating "
                        + "role the owner of its objects, or trust the role with the setting trusted_roles"
                ),
                (.locked(holder: nil, wait: .seconds(1)), .locked, "raise the limit with --lock-wait"),
                (
                    .locked(holder: "h", wait: .seconds(1)), .locked,
                    "raise the limit with --lock-wait, or, if the session is not Reeve's, end it with "
                        + "pg_terminate_backend"
                ),
                (
                    .lostAfter(done: "x", cause: CancellationError()), .temporary,
                    "run the command again; it continues where it stopped"
                ),
                (failed(CancellationError()), .failed, nil), (failed(LedgerError.busy(holder: nil)), .locked, nil),
                (failed(PostgresError(.cannotConnect, "x")), .temporary, nil),
                (failed(PostgresError(.configuration, "x")), .usage, nil),
                (failed(PostgresError(.server, "x", sqlState: "42501")), .notPermitted, nil),
                (
                    failed(PostgresError(.server, "x", sqlState: "55P03"), [blocker]), .temporary,
                    "wait until the blocking session has ended, or end it: SELECT pg_terminate_backend(7)"
                ),
            ])
        check(
            ValidationError.self, "validation",
            [(ValidationError("x", hint: "y"), .failed, "y"), (ValidationError("x"), .failed, nil)])
        check(
            SnapshotError.self, "snapshot",
            [
                (
                    SnapshotError(file: "f", line: 1, message: "x"), .usage,
                    "recreate it with 'reeve schema snapshot'"
                )
            ])
    }

    private func failed(_ cause: any Error, _ blockers: [Blocker] = []) -> MigrationError {
        .failed(system: "s", title: "t", cause: cause, blockers: blockers, attempts: 1, stall: .zero)
    }

    @Test func `the report of a migration that failed has all that the server said`() {
        var cause = PostgresError(.server, "x", sqlState: "23505", hint: "y")
        cause.detail = "z"
        let report = ErrorReport(failed(cause))
        #expect(report.message == "s/t failed: x (SQLSTATE 23505)\ndetail: z")
        #expect(report.hint == "y")
    }

    @Test func `errors of tasks and of the service`() {
        check(
            SchedulingError.self, "task",
            [
                (.unknownTask("t"), .usage, "list the tasks with 'reeve task list'"),
                (.unknownTask("analyse", known: ["anchor", "analyze"]), .usage, "did you mean 'analyze'"),
                (
                    .alreadyRunning("t"), .locked,
                    "wait until it has ended; 'reeve task history --task t' shows its runs"
                ),
            ])
        let address = ListenAddress.tcp(host: "h", port: 1)
        check(
            ServerError.self, "listen",
            [
                (ServerError(address, "x"), .failed, "set http.listen to another address, or to 'off'"),
                (ServerError(address, "x", hint: "y", isRefusal: true), .usage, "y"),
            ])
    }

    @Test func `errors of backups`() {
        check(
            BackupError.self, "backup",
            [
                (
                    .badManifest(object: "o", reason: "x"), .failed,
                    "the backup is ignored; 'reeve backup list' shows the others"
                ),
                (.noPgDump(server: 15), .failed, "install postgresql-client-15"),
                (
                    .hiddenRows(role: "r", table: "t"), .notPermitted,
                    "run ALTER ROLE r BYPASSRLS, or back up as a superuser"
                ),
                (
                    .changing(attempts: 8, last: "public.t"), .failed,
                    "stop what makes these changes until the backup has begun; a superuser can hold them up, and with a "
                        + "larger max_locks_per_transaction the tables stay locked"
                ),
                (.locked(holder: nil), .locked, "wait until it has ended, or raise the limit with --lock-wait"),
                (
                    .noRecipients, .usage,
                    "make a key with 'reeve backup key new' and add its recipient to backup.recipients"
                ),
                (.noProgram("age"), .failed, "install the package age"),
                (.part(object: "o", reason: "x"), .failed, "check all parts with 'reeve backup verify'"),
                (
                    .unreadableTable(["t"], reason: "x"), .failed,
                    "'pg_dump --table' shows whether the server can read the table at all"
                ),
                (
                    .notRestored(object: "o", reason: "x"), .temporary,
                    "fix the cause, and try again; the failure does not mean that the backup is damaged"
                ),
                (.unknown(id: "i"), .usage, "list the backups with 'reeve backup list'"),
                (.unknown(id: "20261121T2", known: ["20261121T1"]), .usage, "did you mean '20261121T1'"),
                (.needsIdentity(id: "i"), .usage, "name the identity file with --identity, or set backup.identity"),
                (
                    .cannotOpen(object: "o", reason: "x"), .failed,
                    "use the identity of one of the backup's recipients; 'reeve backup show' lists them"
                ),
                (.unreadable(reason: "x"), .failed, "fix the cause, and try again; no backup was made"),
                (.hookAfter(id: "i", reason: "x"), .failed, "run the hook by hand to see its output"),
                (.hook(name: "before", reason: "x"), .failed, "run the hook by hand to see its output"),
                (
                    .noRoom(place: "p", free: 0, needed: 1), .failed,
                    "free some space, or remove old backups with 'reeve backup prune'"
                ),
                (.notWritten([("p", "x")]), .failed, "the backup is complete in the other repositories"),
                (
                    .targetLacks(["x"]), .failed,
                    "install the extensions and create the roles there, or create the roles with --roles"
                ),
                (.notInBackup("table t"), .failed, "list the tables with 'reeve backup show'"),
                (
                    .targetHas(["x"]), .failed,
                    "restore into another schema with --into-schema, or rename the existing objects first"
                ),
                (
                    .unfinished(names: ["t"], backup: "i", missing: ["k of t"], schema: "s"), .failed,
                    "run the same command with --constraints, which creates the missing constraints; or drop the "
                        + "tables and the schema s, and restore the tables again"
                ),
                (.noUnfinished(["t"]), .failed, "list the unfinished restores with 'reeve doctor --only restores'"),
                (
                    .notThoseRestored(["t"], schema: "s"), .failed,
                    "drop the schema s, which records that restore, and restore again"
                ),
                (
                    .constraintsLeft(missing: ["k of t"], findings: [], cause: LedgerError.busy(holder: nil)), .failed,
                    "run the same command with --constraints, which creates the missing constraints"
                ),
                (
                    .outcomeUnknown(schema: "s", reason: "x", cause: LedgerError.busy(holder: nil)), .failed,
                    "look for the schema s in the target: if it exists, the tables were restored; then run the same "
                        + "command with --constraints"
                ),
                (.unreachable(place: "p", reason: "x"), .failed, "check that the repository is reachable and readable"),
                (
                    .secretKeyword("sslpassword"), .failed,
                    "put it into a service file (PGSERVICEFILE) and name the service with service=…"
                ),
                (
                    .risky(table: "t", what: "x"), .notPermitted,
                    "restore the whole backup into another database; a whole restore adds such constraints last"
                ),
                (
                    .untrusted(table: "t", what: "x", role: "app"), .notPermitted,
                    "restore as the role that owns the tables, or trust the role with --trust app or the setting "
                        + "trusted_roles"
                ),
                (
                    .leftClosed(database: "d", reopening: ["A", "B"], cause: BackupError.noPgDump(server: 15)), .failed,
                    "all data were restored: fix the cause, then run A; B; or drop the database"
                ),
                (
                    .leftClosed(
                        database: "d", reopening: nil, cause: BackupError.untrusted(table: "t", what: "x", role: "r")),
                    .notPermitted,
                    "restore as the role that owns the tables, or trust the role with --trust r or the setting "
                        + "trusted_roles; drop the database, which contains a part of the backup"
                ),
                (
                    .held(holders: []), .temporary,
                    "wait, or end a session with pg_terminate_backend, or a prepared transaction with "
                        + "ROLLBACK PREPARED"
                ),
                (
                    .exchangeUnknown(
                        database: "d", made: "m", later: "l", statements: ["A", "B"],
                        cause: LedgerError.busy(holder: nil)), .failed,
                    "list the databases: if 'l' exists, nothing is left to do; if 'm' exists, connect to another "
                        + "database and run 'A; B'"
                ),
                (.noBackup(place: "p"), .failed, "list the backups of each repository with 'reeve backup list'"),
                (.badOutput(program: "age", reason: "x"), .failed, "run age by hand to see what it writes"),
                (
                    .emptied(place: "p", name: "n", backups: 2), .failed,
                    "check that the disk of this repository is mounted; if the backups are lost, start again with "
                        + "'reeve backup create --adopt --confirm=n'"
                ),
                (
                    .exchanged(place: "p", expected: "a", found: "b"), .failed,
                    "check that the right disk is mounted; to use this repository from now on, add --adopt to 'reeve "
                        + "backup create'"
                ),
                (
                    .older(found: "i", known: "j"), .finding,
                    "look for a copy of the repository that has it; to go on with the older one, add --allow-older"
                ),
                (
                    .older(found: nil, known: "j"), .finding, "look for a copy of the repository that has it"
                ),
                (.notGone(id: "i"), .usage, "list the missing backups with 'reeve backup list'"),
                (.noneOf(name: "n", others: []), .usage, "check backup.repository"),
                (
                    .noneOf(name: "n", others: ["m (p, 2 backups)"]), .usage,
                    "name the database under 'databases:' as its backups are named"
                ),
                (.needsSigningKey(id: "i"), .usage, "set backup.signing_key to the file with the key"),
                (
                    .beingRestored(backup: "i"), .failed,
                    "wait until the restore has ended; if it was interrupted, restore again with --confirm"
                ),
                (.routed(table: "p", root: "t"), .failed, "restore t, with all its partitions"),
                (.needed(["x"]), .failed, "create them first, or restore whole schemas with --schema"),
                (.notInAnyBackup("table t"), .failed, "list the tables with 'reeve backup show'"),
                (
                    .manifestNotRead(object: "o", cause: .missing("o")), .failed,
                    "check that the whole repository can be read; until then, the backup is ignored"
                ),
            ])
        check(
            PipelineError.self, "program",
            [(PipelineError(program: "/usr/bin/age", ending: .exited(1), errorOutput: "x"), .failed, nil)])
    }

    @Test func `errors of storage`() {
        check(
            StorageError.self, "storage",
            [
                (.missing("o"), .failed, "list the missing objects with 'reeve backup verify'"),
                (
                    .failed(operation: "read", object: "o", reason: "x"), .failed,
                    "check that the repository has free space and is writable"
                ),
                (
                    .badLocation("l", reason: "x"), .failed,
                    "write a folder, or file:///FOLDER, or s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION"
                ),
                (
                    .noCredentials(place: "p", file: "f", profile: "x"), .failed,
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add the profile"
                ),
                (
                    .late(operation: "read", object: "o", limit: .seconds(1)), .failed,
                    "check that its server or mount answers; backup.call_limit and backup.stall_limit set the time limits"
                ),
                (
                    .hung(place: "p", calls: 2), .failed,
                    "check that its server or mount answers; the repository is used again once the pending calls have "
                        + "returned"
                ),
                (.badName("n"), .failed, nil), (.tooLarge("o"), .failed, nil),
            ])
    }

    @Test func `errors without a report of their own`() {
        #expect(ErrorReport(CancellationError()) == ErrorReport("stopped", code: "cancelled"))
        let late = CommandError.tookTooLong(program: "age", limit: .seconds(1), errorOutput: "")
        #expect(ErrorReport(late) == ErrorReport("age did not end within 1 s", code: "failed"))
        #expect(ErrorReport(late).exitCode == .failed)
        #expect(ErrorReport.commonCodes.map(\.name) == ["cancelled", "failed"])
    }

    // MARK: The reference

    @Test func `each type that has reports is in the list`() throws {
        let sources = URL(fileURLWithPath: "\(ShippedFixture.repository)/Sources")
        var names: [String] = []
        for case let file as URL in FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)
            ?? .init()
        where file.pathExtension == "swift" {
            let text = try String(contentsOf: file, encoding: .utf8)
            names += text.matches(of: /(?:extension|struct|enum) (\w+): ReportedError/).map { String($0.1) }
        }
        #expect(names.sorted() == FeatureList.reeve.errors.map { "\($0)" }.sorted())
    }

    @Test func `a code means the same wherever it comes from`() {
        for (name, codes) in Dictionary(grouping: FeatureList.reeve.errorCodes, by: \.name) {
            #expect(Set(codes.map(\.meaning)).count == 1, "\(name)")
        }
    }
}
