import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Reporting
import SQL

/// The commands `reeve backup test` and `reeve backup restore`.
enum RestoreCommands {
    static let all = [test, restore]

    static let test = CommandSpec(
        noun: "backup", verb: "test",
        summary: "restore a backup into a temporary cluster and compare it with its source",
        discussion:
            "Compares the numbers of rows, the content, sequences, large objects, roles, settings and the schema with "
            + "the values that were recorded at the backup's snapshot, and lists what is not compared. Then runs the "
            + "checks of each system (backups/checks/SYSTEM/*.sql); a check passes if it returns no row. The cluster "
            + "is removed afterwards. If no server programs are installed, a scratch database on the source's server "
            + "is used instead. Exits with 3 if anything differs.",
        arguments: [BackupScope.backup],
        options: [
            .flag("latest", "test the newest backup; this is the default"), BackupScope.identity,
            BackupScope.repository,
            .option(
                "timeout", "DURATION", "how long the restore and the comparison may take; 12h if it is not given"),
        ] + BackupScope.allowances,
        whenInterrupted: "nothing was proved; the backup is unchanged"
    ) { invocation in
        let limit = try invocation.duration("timeout") ?? .seconds(12 * 3600)
        return try await BackupScope.forEach(invocation) { work in
            let id = invocation.arguments.positional.first ?? "latest"
            let proof = try await work.test(
                try await BackupScope.search(invocation, work).find(id), identity: try BackupScope.identity(invocation),
                within: limit, actor: Invocation.person, progress: BackupScope.progress(invocation.console))
            return DatabaseScope.Report(
                BackupText.proved(proof), BackupText.text(proof), proof.differences.isEmpty ? .done : .finding)
        }
    }

    static let restore = CommandSpec(
        noun: "backup", verb: "restore", summary: "restore a backup, or tables or schemas of it, into a database",
        discussion:
            "A whole backup requires an empty target. With --confirm, the target need not be empty: the restored "
            + "database takes the target's name, and the previous contents are kept in a database with another name. "
            + "While a superuser restores, the database belongs to the superuser, and other sessions cannot connect "
            + "until all data have been restored (and masked, with --mask) and the hook backup.hooks.restored has run. "
            + "A database whose restore failed stays closed (CONNECTION LIMIT 0); one that was created for the restore "
            + "is dropped. If the server refuses an index, a constraint, the REFRESH of a materialized view or another "
            + "object that follows the rows, the restore goes on without it, lists it, and exits with 3.\n\nSingle "
            + "tables and schemas are added to a database that may be in use, with all rows in one transaction. Their "
            + "foreign keys are created afterwards, each in its own transaction. A foreign key that the target cannot "
            + "have is left out. The command lists everything that was left out or differs from the backup, and then "
            + "exits with 3. A restore that is interrupted before the last foreign key leaves a record in the target, "
            + "an empty schema: the same command with --constraints then creates the missing constraints from the same "
            + "backup. A superuser cannot restore a table whose generated columns or partition key call a function of "
            + "a role that is not trusted (exit 4).",
        arguments: [ArgumentSpec(name: "ID", help: "the ID of a backup, or 'latest'", isRequired: false)],
        options: [
            .option("to", "URL", "the database to restore into"),
            .flag("create", "create the database that --to names if it does not exist, without asking"),
            .option("table", "TABLE", "only this table, with its indexes, constraints and grants", repeated: true),
            .option("schema", "SCHEMA", "only this schema", repeated: true),
            .option("into-schema", "SCHEMA", "put the tables into this schema instead of their own"),
            .flag(
                "constraints",
                "create only the constraints that an unfinished restore of the same tables has yet to create"),
            .option("as-of", "TIME", "the newest backup started at or before TIME, for example 2026-11-20T03:00:00Z"),
            .flag("roles", "create the missing roles"),
            .flag("mask", "mask the columns that are listed under 'mask' in the systems' system.yaml"),
            BackupScope.tablespace, BackupScope.identity, BackupScope.repository, BackupScope.trust,
            .option("confirm", "NAME", "the target's name; required if the target is not empty"),
        ] + BackupScope.allowances, whenInterrupted: "nothing was restored"
    ) { invocation in
        let target = try target(invocation)
        guard try invocation.estate().selected(invocation.option("database")).count == 1 else {
            throw UsageError(
                "several databases are configured", hint: "name the database of the backup with --database")
        }
        var order = try order(invocation)
        return try await BackupScope.forEach(invocation) { work in
            if invocation.has("constraints") {
                order.unfinished = try await UnfinishedRestore.find(in: target, of: order.selection)
            }
            let found = try await choose(invocation, work, order.unfinished)
            let (repository, manifest) = (found.repository, found.manifest)
            order.isMade = try await makeIfWanted(target, like: manifest, invocation)
            if order.selection.isEmpty, !order.isMade { order.replaces = try await mayReplace(target, invocation) }
            invocation.interruption.restores(order, into: target)
            let began = ContinuousClock.now
            let progress = BackupScope.progress(invocation.console)
            let isPartial = !order.selection.isEmpty
            let outcome: RestoreOutcome
            if isPartial {
                if order.isMade {
                    invocation.console.note(
                        "the database \(target.parameters["dbname"] ?? "") is created; apart from superusers, only its "
                            + "owner may connect to it")
                }
                outcome = RestoreOutcome(
                    notes: try await work.restoreTables(
                        manifest, from: repository, into: target, order, progress: progress))
            } else {
                outcome = try await work.restore(
                    manifest, from: repository, into: target, order, progress: progress)
            }
            let seconds = (ContinuousClock.now - began).inSeconds
            let notes = outcome.missing.map(\.description) + outcome.notes
            for note in notes { invocation.console.note(note) }
            if !isPartial, await work.isOwn(target) { await work.takeOver(after: "the restore") }
            // Errors are ignored, because the source database may no longer exist.
            try? await work.withLedger {
                try BackupLedger.restored(
                    id: manifest.id, target: target.withoutPassword.uri, actor: Invocation.person, on: $0)
            }
            let what =
                switch order.unfinished {
                case nil: "restored \(manifest.id), as of \(manifest.startedAt)"
                case let record? where record.missingNames.isEmpty:
                    "the restore of \(manifest.id) was already complete"
                case _?: "created the constraints that the restore of \(manifest.id) had yet to create"
                }
            // The notes of a restore of a whole backup are not findings, unless something is missing.
            let hasFindings = isPartial ? !notes.isEmpty : !outcome.missing.isEmpty
            return DatabaseScope.Report(
                [
                    "backup": .string(manifest.id), "restore_seconds": .double(seconds),
                    "notes": .array(notes.map { .string($0) }), "missing": BackupText.missing(outcome.missing),
                ],
                "\(what), in \(String(format: "%.1f", seconds)) s"
                    + (hasFindings ? "; not everything equals the backup" : ""), hasFindings ? .finding : .done)
        }
    }

    private static func target(_ invocation: Invocation) throws -> ConnectionSettings {
        guard let url = invocation.option("to") else { throw UsageError("'reeve backup restore' requires --to URL") }
        let target = try ConnectionSettings(connectionString: url)
        guard target.parameters["password"] == nil else {
            throw UsageError(
                "a password on the command line is visible to every user of the machine",
                hint: "put it into ~/.pgpass or PGPASSWORD")
        }
        return target
    }

    private static func order(_ invocation: Invocation) throws -> BackupWork.RestoreOrder {
        var order = BackupWork.RestoreOrder()
        order.identity = try BackupScope.identity(invocation)
        order.makesRoles = invocation.has("roles")
        order.isMasked = invocation.has("mask")
        order.trustedRoles = invocation.options("trust")
        order.tablespaces = try BackupScope.tablespaces(invocation)
        order.selection.tables = invocation.options("table")
        order.selection.schemas = invocation.options("schema")
        order.selection.intoSchema = invocation.option("into-schema")
        if order.selection.isEmpty, order.selection.intoSchema != nil {
            throw UsageError("--into-schema requires --table or --schema")
        }
        if invocation.has("constraints") {
            if order.selection.isEmpty { throw UsageError("--constraints requires --table or --schema") }
            for other in ["into-schema", "mask", "roles", "as-of"]
            where invocation.has(other) || invocation.option(other) != nil {
                throw UsageError("--constraints cannot be combined with --\(other)")
            }
        }
        return order
    }

    /// Finds the backup to restore.
    ///
    /// - Parameter unfinished: the restore to continue. An unfinished restore continues with the backup that it began
    ///   with.
    private static func choose(
        _ invocation: Invocation, _ work: BackupWork, _ unfinished: UnfinishedRestore?
    ) async throws -> FoundBackup {
        if let id = unfinished?.backup {
            if let named = invocation.arguments.positional.first, named != "latest", named != id {
                throw UsageError(
                    "the unfinished restore used the backup \(id), not \(named)",
                    hint: "give the ID \(id), or no ID")
            }
            return try await BackupScope.search(invocation, work).find(id)
        }
        guard let text = invocation.option("as-of") else {
            guard let id = invocation.arguments.positional.first else {
                throw UsageError(
                    "'reeve backup restore' requires a backup", hint: "give its ID, 'latest' or --as-of TIME")
            }
            return try await BackupScope.search(invocation, work).find(id)
        }
        guard invocation.arguments.positional.isEmpty else { throw UsageError("--as-of cannot be combined with an ID") }
        guard let time = try? Timestamp.fromPostgres(text) else {
            throw UsageError("--as-of: '\(text)' is not a valid time", hint: "write for example 2026-11-20T03:00:00Z")
        }
        return try await BackupScope.search(invocation, work).newest("as of \(text)", by: time)
    }

    /// Creates the target if it does not exist, and if `--create` is given or the user agrees.
    ///
    /// - Returns: whether it was created.
    /// - Throws: `ConfirmationNeeded`; `UsageError` if the server of --to cannot be reached.
    private static func makeIfWanted(
        _ target: ConnectionSettings, like manifest: Manifest, _ invocation: Invocation
    ) async throws -> Bool {
        let replacement = Replacement(
            of: target, like: manifest, tablespaces: try BackupScope.tablespaces(invocation))
        do {
            try await Connection.opened(target) { _ in }
            return false
        } catch let error as PostgresError {
            // SQLSTATE 3D000 does not reach the client when a connection is refused.
            guard error.kind == .cannotConnect, (try? await replacement.isThere()) == false else {
                let name = target.parameters["dbname"].map(quoteIdentifier) ?? ""
                throw UsageError(
                    "--to: \(error)",
                    hint: "\(error)".contains("not currently accepting connections")
                        ? "if a restore was killed while it created this database, run DROP DATABASE \(name)"
                        : "check the address that --to names")
            }
        }
        let name = target.parameters["dbname"] ?? ""
        if !invocation.has("create") {
            try invocation.confirm("the database '\(name)' does not exist; it would be created", name: name)
        }
        return try await replacement.makeIfMissing()
    }

    /// Returns whether the target must be replaced, because it is not empty.
    ///
    /// - Throws: `ConfirmationNeeded` if the target is not empty, and `--confirm` does not name it.
    private static func mayReplace(_ target: ConnectionSettings, _ invocation: Invocation) async throws -> Bool {
        let (name, count) = try await TargetContent.read(target)
        if count == 0 { return false }
        guard invocation.option("confirm") == name else {
            throw ConfirmationNeeded(
                what:
                    "the database '\(name)' is not empty: it contains \(counted(count, "object"))",
                name: name)
        }
        return true
    }
}

/// The existing content of the target of a restore.
enum TargetContent {
    /// - Returns: the database's name, and the number of tables, functions, types and other objects in its schemas,
    ///   without the objects of extensions.
    static func read(_ target: ConnectionSettings) async throws -> (name: String, objects: Int) {
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
                let count: Int =
                    try connection.query(
                        """
                        SELECT count(*) FROM pg_depend d JOIN pg_namespace n
                            ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                        WHERE \(UserSchemas.condition("n.nspname")) AND d.classid <> 'pg_extension'::regclass
                            AND NOT EXISTS (SELECT FROM pg_depend e
                                WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
                        """
                    ).first?.get(0) ?? 0
                return (name, count)
            }
        }
    }
}
