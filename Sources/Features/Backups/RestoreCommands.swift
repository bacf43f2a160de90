import Backups
import Foundation
import Kernel
import Ledger
import Postgres
import Reporting

/// The commands `reeve backup test` and `reeve backup restore`.
enum RestoreCommands {
    static let all = [test, restore]

    static let test = CommandSpec(
        noun: "backup", verb: "test",
        summary: "restore a backup into a temporary cluster and compare it with its source",
        discussion:
            "Compares the numbers of rows, the content, sequences, large objects, roles and the whole schema with the "
            + "values that were recorded at the backup's snapshot. Then runs the checks of each system "
            + "(backups/checks/SYSTEM/*.sql); a check passes if it returns no row. The cluster is removed afterwards. "
            + "If no server programs are installed, a scratch database on the source's server is used instead. Exits "
            + "with 3 if anything differs.",
        arguments: [BackupScope.backup],
        options: [
            .flag("latest", "test the newest backup; this is the default"), BackupScope.identity,
            BackupScope.repository,
        ],
        whenInterrupted: "nothing was proved; the backup is unchanged"
    ) { invocation in
        try await BackupScope.forEach(invocation) { work in
            let id = invocation.arguments.positional.first ?? "latest"
            let (repository, manifest) = try await work.find(id, in: invocation.option("repository")) {
                invocation.console.note($0)
            }
            let proof = try await work.test(
                manifest, in: repository, identity: invocation.option("identity"), actor: Invocation.person,
                progress: BackupScope.progress(invocation.console))
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
            + "A database whose restore failed stays closed (CONNECTION LIMIT 0).\n\n"
            + "Single tables and schemas are added to a database that may be in use, with all rows in one transaction. "
            + "Their foreign keys are created afterwards, each in its own transaction. A foreign key that the target "
            + "cannot have is left out. The command lists everything that was left out or differs from the backup, and "
            + "then exits with 3. A restore that is interrupted before the last foreign key leaves a record in the "
            + "target, an empty schema: the same command with --constraints then creates the missing constraints from "
            + "the same backup. A superuser cannot restore a table whose generated columns or partition key call a "
            + "function of a role that is not trusted (exit 4).",
        arguments: [ArgumentSpec(name: "ID", help: "the ID of a backup, or 'latest'", isRequired: false)],
        options: [
            .option("to", "URL", "the database to restore into; it must exist"),
            .option("table", "TABLE", "only this table, with its indexes, constraints and grants", repeated: true),
            .option("schema", "SCHEMA", "only this schema", repeated: true),
            .option("into-schema", "SCHEMA", "put the tables into this schema instead of their own"),
            .flag(
                "constraints",
                "create only the constraints that an unfinished restore of the same tables has yet to create"),
            .option("as-of", "TIME", "the newest backup started at or before TIME, for example 2026-11-20T03:00:00Z"),
            .flag("roles", "create the missing roles"),
            .flag("mask", "mask the columns that are listed under 'mask' in the systems' system.yaml"),
            BackupScope.identity, BackupScope.repository, BackupScope.trust,
            .option("confirm", "NAME", "the target's name; required if the target is not empty"),
        ], whenInterrupted: "nothing was restored"
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
            let (repository, manifest) = try await choose(invocation, work, order.unfinished)
            if order.selection.isEmpty { order.replaces = try await mayReplace(target, invocation) }
            invocation.interruption.restores(order, into: target)
            let began = ContinuousClock.now
            let progress = BackupScope.progress(invocation.console)
            let isPartial = !order.selection.isEmpty
            let notes =
                isPartial
                ? try await work.restoreTables(manifest, from: repository, into: target, order, progress: progress)
                : try await work.restore(manifest, from: repository, into: target, order, progress: progress)
            let seconds = (ContinuousClock.now - began).inSeconds
            for note in notes { invocation.console.note(note) }
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
            // A restore of a whole backup leaves nothing out, so its notes are not findings.
            let hasFindings = isPartial && !notes.isEmpty
            return DatabaseScope.Report(
                [
                    "backup": .string(manifest.id), "restore_seconds": .double(seconds),
                    "notes": .array(notes.map { .string($0) }),
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
        order.identity = invocation.option("identity")
        order.makesRoles = invocation.has("roles")
        order.isMasked = invocation.has("mask")
        order.trustedRoles = invocation.options("trust")
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
    ) async throws -> (Repository, Manifest) {
        let place = invocation.option("repository")
        if let id = unfinished?.backup {
            if let named = invocation.arguments.positional.first, named != "latest", named != id {
                throw UsageError(
                    "the unfinished restore used the backup \(id), not \(named)",
                    hint: "give the ID \(id), or no ID")
            }
            return try await work.find(id, in: place) { invocation.console.note($0) }
        }
        guard let text = invocation.option("as-of") else {
            guard let id = invocation.arguments.positional.first else {
                throw UsageError(
                    "'reeve backup restore' requires a backup", hint: "give its ID, 'latest' or --as-of TIME")
            }
            return try await work.find(id, in: place) { invocation.console.note($0) }
        }
        guard invocation.arguments.positional.isEmpty else { throw UsageError("--as-of cannot be combined with an ID") }
        guard let time = try? Timestamp.fromPostgres(text) else {
            throw UsageError("--as-of: '\(text)' is not a valid time", hint: "write for example 2026-11-20T03:00:00Z")
        }
        return try await BackupWork.newest(
            of: work.open.name, in: BackupScope.repositories(invocation, work), "as of \(text)", by: time
        ) { invocation.console.note($0) }
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
