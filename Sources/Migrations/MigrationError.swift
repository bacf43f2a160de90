import Foundation
import Ledger
import Postgres
import Reporting
import SQL

/// An error that prevents migrations from being read, planned or applied.
public enum MigrationError: Error, CustomStringConvertible {
    case unreadable(path: String, reason: String)
    case badFileName(path: String)
    case badDirective(location: String, String, hint: String)
    case badEncoding(location: String, String, hint: String)
    case badParts(location: String)
    case downWithoutUp(path: String)
    case duplicateVersion(String, String)
    case missingRequirement(system: String, requirement: String)
    case requirementCycle([String])
    case requiredByOthers(system: String, others: [String])
    /// `revertTo` is the version to which the migration can be reverted, or `none`; nil if it cannot be reverted.
    case changed(
        system: String, title: String, applied: [UInt8], file: [UInt8], path: String, difference: String?,
        revertTo: String?)
    case renamed(system: String, version: Int, applied: String, file: String)
    case missingFile(system: String, title: String)
    case outOfOrder(system: String, title: String, applied: Int)
    case noWayDown(system: String, title: String)
    case unknownVersion(system: String, version: Int)
    case transactionControl(location: String, statement: String, isAutocommit: Bool)
    case stepsInRepeatable(path: String)
    case otherSchema(system: String, recorded: String, configured: String)
    case stepsChanged(system: String, title: String, step: Int)
    case halfReverted(system: String, title: String)
    case invalidIndex(name: String, location: String, dropStatement: String)
    /// An interrupted migration cannot be continued, because a temporary object of its session is lost.
    case temporaryLost(location: String, system: String, title: String)
    /// An interrupted migration cannot be continued, because it is not known whether settings were made for a
    /// transaction or for the session.
    case settingsUnknown(location: String, system: String, title: String, names: [String])
    /// The file of a pending migration contains no statement.
    case empty(system: String, title: String, path: String)
    case failed(
        system: String, title: String, cause: any Error, blockers: [Blocker], attempts: Int, stall: Duration)
    /// An applied migration does not run again in a scratch database. The database itself was not changed.
    case notReplayed(system: String, title: String, cause: PostgresError)
    /// A run ended early. `done` are the migrations that it completed, `standing` what is left of the failed one.
    indirect case stopped(done: [String], word: String, standing: String?, cause: MigrationError)
    /// The migrations of a superuser could call functions of other roles in the schema.
    case openSchema(system: String, schema: String, roles: [String])
    /// A superuser would migrate tables on which other roles may create triggers, or have triggers.
    case openTables(system: String, schema: String, roles: [String])
    case locked(holder: String?, wait: Duration)
    /// The connection was lost after the migration that `done` describes, and the run cannot continue.
    case lostAfter(done: String, cause: any Error)

    public var description: String {
        switch self {
        case .unreadable(let path, let reason): "\(path): \(reason)"
        case .badFileName(let path): "\(path): not a valid name of a migration file"
        case .badDirective(let location, let problem, _), .badEncoding(let location, let problem, _):
            "\(location): \(problem)"
        case .badParts(let location): "\(location): the file has this part twice, or the down part first"
        case .downWithoutUp(let path): "\(path): the .up.sql file of this migration is missing"
        case .duplicateVersion(let first, let second): "two migrations have the same version: \(first) and \(second)"
        case .missingRequirement(let system, let requirement):
            "the system '\(system)' requires '\(requirement)', which does not exist"
        case .requirementCycle(let names): "systems require each other: \(names.joined(separator: " → "))"
        case .requiredByOthers(let system, let others):
            "the system '\(system)' cannot be reverted, because it is required by \(others.joined(separator: ", "))"
        case .changed(let system, let title, let applied, let file, let path, let difference, _):
            "\(system)/\(title) was changed after it was applied: its checksum was \(Bytes(applied).hex.prefix(12)), "
                + "and that of \(path) is \(Bytes(file).hex.prefix(12))"
                + (difference.map { "\n\($0)" } ?? "")
        case .renamed(let system, let version, let applied, let file):
            "version \(version) of \(system) was applied as '\(applied)', but its file is named '\(file)'"
        case .missingFile(let system, let title): "\(system)/\(title) was applied, but its file is missing"
        case .outOfOrder(let system, let title, let applied):
            "\(system)/\(title) is not applied, but the later version \(applied) is"
        case .noWayDown(let system, let title): "\(system)/\(title) cannot be reverted: it has no down script"
        case .unknownVersion(let system, let version): "the system '\(system)' has no version \(version)"
        case .transactionControl(let location, let statement, let isAutocommit):
            "\(location): \(statement) is not allowed here"
                + (isAutocommit ? "" : ", because the migration already runs in a transaction")
        case .stepsInRepeatable(let path):
            "\(path): a repeatable migration has a statement that cannot run in a transaction"
        case .otherSchema(let system, let recorded, let configured):
            "the system '\(system)' was migrated in schema '\(recorded)', but '\(configured)' is configured"
        case .stepsChanged(let system, let title, let step):
            "\(system)/\(title) was interrupted, and its finished step \(step + 1) has been changed since"
        case .halfReverted(let system, let title):
            "\(system)/\(title) is partly reverted: a run of 'down' was interrupted"
        case .invalidIndex(let name, let location, _):
            "\(location): the index \(name) exists and is invalid, so the statement did nothing"
        case .temporaryLost(let location, let system, let title):
            "\(system)/\(title) cannot be continued at \(location): the temporary objects of its session were lost "
                + "when the run was interrupted"
        case .settingsUnknown(let location, let system, let title, let names):
            "\(system)/\(title) cannot be continued at \(location): the server was interrupted right after COMMIT, and "
                + "it is not known whether the statements before set these settings for the session: "
                + "\(names.joined(separator: ", "))"
        case .empty(let system, let title, let path): "\(system)/\(title) contains no statement: \(path)"
        case .failed(let system, let title, let cause, let blockers, let attempts, let stall):
            Self.describe(system, title, "\(cause)", blockers, attempts, stall)
        case .notReplayed(let system, let title, let cause): Self.describeReplay(system, title, "\(cause)")
        case .stopped(let done, let word, let standing, let cause):
            Self.describe(cause.description, done, word, standing)
        case .openSchema(let system, let schema, let roles):
            "the schema '\(schema)' of the system '\(system)' may contain functions of "
                + "\(roles.map { "'\($0)'" }.joined(separator: ", ")), which a migration could call with the rights of "
                + "a superuser"
        case .openTables(let system, let schema, let roles):
            "tables of the schema '\(schema)' of the system '\(system)' may have triggers of "
                + "\(roles.map { "'\($0)'" }.joined(separator: ", ")), which a migration could fire with the rights of "
                + "a superuser"
        case .locked(let holder, let wait):
            "another migration run held the lock for more than \(wait.components.seconds) s"
                + (holder.map { ": \($0)" } ?? "")
        case .lostAfter(let done, let cause): "\(done); then the connection was lost: \(cause)"
        }
    }

    private static func describeReplay(_ system: String, _ title: String, _ cause: String) -> String {
        "\(system)/\(title) cannot be replayed in a scratch database, to know the expected schema: \(cause)"
    }

    private static func describe(
        _ system: String, _ title: String, _ cause: String, _ blockers: [Blocker], _ attempts: Int, _ stall: Duration
    ) -> String {
        var text = "\(system)/\(title) failed"
        if attempts > 1 { text += " after \(attempts) attempts" }
        text += ": \(cause)"
        if attempts > 1 {
            text += "\nother sessions waited for at most \(MigrationEvent.seconds(stall)) because of the attempts"
        }
        for blocker in blockers { text += "\nblocked by \(blocker)" }
        return text
    }

    private static func describe(
        _ cause: String, _ done: [String], _ word: String, _ standing: String?
    ) -> String {
        var lines = [cause]
        if let standing { lines.append(standing) }
        let shown = done.count > 5 ? [done[0], "…", done[done.count - 1]] : done
        lines.append(
            done.isEmpty
                ? "nothing was \(word) before"
                : "\(word) before: \(done.count) (\(shown.joined(separator: ", ")))")
        return lines.joined(separator: "\n")
    }

    /// The description with all details that the server reported.
    private var fullDescription: String {
        switch self {
        case .failed(let system, let title, let cause as PostgresError, let blockers, let attempts, let stall):
            Self.describe(system, title, cause.fullDescription, blockers, attempts, stall)
        case .notReplayed(let system, let title, let cause):
            Self.describeReplay(system, title, cause.fullDescription)
        case .stopped(let done, let word, let standing, let cause):
            Self.describe(cause.fullDescription, done, word, standing)
        default: description
        }
    }

    /// Adds the first token that differs between the applied text and the file, if a migration was changed.
    func explained(applied source: String, file migration: Migration) -> MigrationError {
        guard case .changed(let system, let title, let applied, let file, let path, _, let revertTo) = self else {
            return self
        }
        return .changed(
            system: system, title: title, applied: applied, file: file, path: path,
            difference: TokenDifference(applied: source, script: migration.up)?.description, revertTo: revertTo)
    }

    /// Whether a contradiction between the files and the ledger does not matter for a goal: a migration whose file was
    /// changed can still be reverted.
    func isMoot(for goal: MigrationGoal) -> Bool {
        guard case .changed = self, case .down = goal else { return false }
        return true
    }

    public var hint: String? {
        switch self {
        case .badFileName:
            "name it VERSION_name.up.sql, VERSION_name.down.sql, VERSION_name.sql, R__name.sql or R__name.down.sql; a "
                + "version has up to 18 digits"
        case .badDirective(_, _, let hint), .badEncoding(_, _, let hint): hint
        case .badParts: "write '-- reeve: up' once, and after it '-- reeve: down' once"
        case .downWithoutUp: "give both files the same version and name"
        case .duplicateVersion: "give one of them the next free version"
        case .missingRequirement(_, let requirement): "add '\(requirement)' to the systems"
        case .requiredByOthers(_, let others):
            "revert \(others.joined(separator: ", ")) first, with 'reeve migrate down'"
        case .changed(let system, let title, _, _, _, _, let revertTo):
            "restore the file as it was, and make the change in a new migration after \(title)"
                + (revertTo.map {
                    "; or, if the data may be lost, revert it with 'reeve migrate down --system \(system) --to \($0)'"
                } ?? "")
        case .renamed(_, _, let applied, _): "change the name back to '\(applied)'"
        case .missingFile: "restore the file; to undo a migration, run 'reeve migrate down' while its files exist"
        case .outOfOrder: "give it the next free version, or apply it out of order with --out-of-order"
        case .noWayDown: "write a .down.sql file or a part '-- reeve: down', or restore a backup"
        case .unknownVersion: "list the versions with 'reeve migrate status'"
        case .transactionControl(_, _, let isAutocommit):
            isAutocommit
                ? "use only BEGIN … COMMIT, without options, around statements that can run in a transaction"
                : "remove the statement; BEGIN and COMMIT are allowed around the whole file, and in a file with '-- reeve: no-transaction'"
        case .stepsInRepeatable: "move the statement to a versioned migration"
        case .otherSchema(_, let recorded, _):
            "configure schema '\(recorded)' for the system again, or revert the system first with 'reeve migrate down'"
        case .halfReverted(let system, _): "run 'reeve migrate down --system \(system)' again, then 'up'"
        case .stepsChanged: "restore the file as it was when the run was interrupted"
        case .invalidIndex(_, _, let drop): "run \(drop), then 'reeve migrate up' again"
        case .temporaryLost:
            "run the remaining statements by hand, then record the migration with 'reeve migrate baseline'"
        case .settingsUnknown(_, _, _, let names):
            "write the settings that are to hold before this statement, for example SET "
                + "\(names.first ?? "search_path") = …, and run the command again"
        case .empty: "write the statements, or apply it as it is with --allow-empty"
        case .stopped(_, _, _, let cause): cause.hint
        case .failed(_, _, let cause, let blockers, _, _):
            blockers.isEmpty
                ? (cause as? PostgresError)?.hint
                : "wait until the blocking session has ended, or end it: SELECT "
                    + "pg_terminate_backend(\(blockers[0].process))"
        case .notReplayed(_, _, let cause):
            (cause.hint.map { "\($0)\n" } ?? "")
                + "the database itself was not changed; if the migration depends on data or objects that the migrations "
                + "do not create, commit schema.snapshot and set validate.scratch to never"
        case .openSchema(_, let schema, let roles):
            "connect as the role that owns the schema, or REVOKE CREATE ON SCHEMA \(quoteIdentifier(schema)) and make "
                + "the migrating role the owner of its objects, or trust \(roles.count == 1 ? "the role" : "them") "
                + "with the setting trusted_roles"
        case .openTables(_, let schema, let roles):
            "connect as the role that owns the schema, or REVOKE TRIGGER ON ALL TABLES IN SCHEMA "
                + "\(quoteIdentifier(schema)) FROM "
                + "\(roles.map { $0 == "PUBLIC" ? $0 : quoteIdentifier($0) }.joined(separator: ", ")) (also in ALTER "
                + "DEFAULT PRIVILEGES) and drop triggers of theirs, or trust \(roles.count == 1 ? "the role" : "them") "
                + "with the setting trusted_roles"
        case .locked(let holder, _):
            "raise the limit with --lock-wait"
                + (holder == nil ? "" : ", or, if the session is not Reeve's, end it with pg_terminate_backend")
        case .lostAfter: "run the command again; it continues where it stopped"
        case .unreadable, .requirementCycle: nil
        }
    }
}

extension MigrationError: ReportedError {
    public static let codes = [
        ErrorCode(
            "migration", [.failed, .usage, .notPermitted, .locked, .temporary],
            "Migrations cannot be read, planned or applied. If a migration failed, the exit status is that of the "
                + "cause."
        )
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .locked: .locked
            case .openSchema, .openTables: .notPermitted
            case .failed(_, _, let cause, _, _, _): ErrorReport(cause).exitCode
            case .notReplayed(_, _, let cause): ErrorReport(cause).exitCode
            case .stopped(_, _, _, let cause): cause.report.exitCode
            case .lostAfter: .temporary
            default: .failed
            }
        return ErrorReport(fullDescription, code: "migration", hint: hint, exitCode: exitCode)
    }
}
