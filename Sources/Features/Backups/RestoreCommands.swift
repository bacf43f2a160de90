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
        summary: "restore a backup into a cluster of its own and compare it with its source",
        discussion:
            "Compared are rows, content, sequences, large objects, roles and the whole schema, with what was taken "
            + "at the backup's own snapshot; then the checks of each system (backups/checks/SYSTEM/*.sql), each of which "
            + "gives no row when it holds. The cluster is removed after; where no server programs are installed, it is a "
            + "scratch database on the source's server. Exit 3 when anything differs.",
        arguments: [BackupScope.backup],
        options: [.flag("latest", "the newest backup, as without ID"), BackupScope.identity, BackupScope.repository],
        whenInterrupted: "nothing was proved; the backup is as it was"
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
        noun: "backup", verb: "restore", summary: "restore a backup, or a table or schema of it, into a database",
        discussion:
            "A whole backup wants an empty target; with --confirm it takes the place of what is there, which stays "
            + "in a database beside it. Sessions of others are kept out until everything is there, masked where that is "
            + "wanted, and the hook backup.hooks.restored has run (the role must be a superuser for that, to whom the "
            + "database belongs meanwhile); a database whose restore has failed stays closed, by CONNECTION LIMIT 0. Single tables "
            + "and schemas are put into a database that is in use, beside what is there, with all rows in one transaction; "
            + "then their foreign keys, each in a transaction of its own. One that the target cannot have is left out: "
            + "what is left out, or has come otherwise than it was, is said, and the command exits with 3. A restore that "
            + "is stopped between keeps a record in the target, an empty schema: the same command with --constraints makes "
            + "what is missing, out of the backup that it was begun with. "
            + "A superuser restores no table whose generated columns or partition key call a function of a role "
            + "that is not trusted (exit 4).",
        arguments: [ArgumentSpec(name: "ID", help: "a backup, or latest", isRequired: false)],
        options: [
            .option("to", "URL", "the database to restore into; it must exist"),
            .option("table", "TABLE", "only this table, with its indexes, constraints and grants", repeated: true),
            .option("schema", "SCHEMA", "only this schema", repeated: true),
            .option("into-schema", "SCHEMA", "put the tables there instead of where they were"),
            .flag("constraints", "make only the constraints that an unfinished restore of the same tables has left"),
            .option("as-of", "TIME", "the newest backup that was begun by then, as 2026-11-20T03:00:00Z"),
            .flag("roles", "make the roles that are missing"),
            .flag("mask", "mask the columns that the systems name under 'mask'"),
            BackupScope.identity, BackupScope.repository, BackupScope.trust,
            .option("confirm", "NAME", "the target's name, when it is not empty"),
        ], whenInterrupted: "nothing was restored"
    ) { invocation in
        let target = try target(invocation)
        guard try invocation.estate().selected(invocation.option("database")).count == 1 else {
            throw UsageError(
                "several databases are configured", hint: "name the one whose backup it is with --database")
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
                    "the restore of \(manifest.id) has left nothing to do"
                case _?: "made what the restore of \(manifest.id) had left"
                }
            // A restore of a whole backup leaves nothing out, so its notes are not findings.
            let hasFindings = isPartial && !notes.isEmpty
            return DatabaseScope.Report(
                [
                    "backup": .string(manifest.id), "restore_seconds": .double(seconds),
                    "notes": .array(notes.map { .string($0) }),
                ],
                "\(what), in \(String(format: "%.1f", seconds)) s"
                    + (hasFindings ? "; not everything is as it was" : ""), hasFindings ? .finding : .done)
        }
    }

    private static func target(_ invocation: Invocation) throws -> ConnectionSettings {
        guard let url = invocation.option("to") else { throw UsageError("'reeve backup restore' requires --to URL") }
        let target = try ConnectionSettings(connectionString: url)
        guard target.parameters["password"] == nil else {
            throw UsageError(
                "a password on the command line can be read by everyone on the machine",
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

    /// - Parameter unfinished: the restore to continue. It continues with the backup that it began with.
    private static func choose(
        _ invocation: Invocation, _ work: BackupWork, _ unfinished: UnfinishedRestore?
    ) async throws -> (Repository, Manifest) {
        let place = invocation.option("repository")
        if let id = unfinished?.backup {
            if let named = invocation.arguments.positional.first, named != "latest", named != id {
                throw UsageError("the unfinished restore is of \(id), not of \(named)", hint: "name that one, or none")
            }
            return try await work.find(id, in: place) { invocation.console.note($0) }
        }
        guard let text = invocation.option("as-of") else {
            guard let id = invocation.arguments.positional.first else {
                throw UsageError(
                    "'reeve backup restore' requires a backup", hint: "give its ID, latest, or --as-of TIME")
            }
            return try await work.find(id, in: place) { invocation.console.note($0) }
        }
        guard invocation.arguments.positional.isEmpty else { throw UsageError("--as-of cannot be combined with an ID") }
        guard let time = try? Timestamp.fromPostgres(text) else {
            throw UsageError("--as-of: '\(text)' is not a valid time", hint: "write 2026-11-20T03:00:00Z")
        }
        return try await BackupWork.newest(
            of: work.open.name, in: BackupScope.repositories(invocation, work), "as of \(text)", by: time
        ) { invocation.console.note($0) }
    }

    /// Whether the target is not empty, and may be replaced.
    private static func mayReplace(_ target: ConnectionSettings, _ invocation: Invocation) async throws -> Bool {
        let (name, count) = try await TargetContent.read(target)
        if count == 0 { return false }
        guard invocation.option("confirm") == name else {
            throw ConfirmationNeeded(
                what:
                    "the database '\(name)' is not empty: \(count == 1 ? "an object is" : "\(count) objects are") in it",
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
