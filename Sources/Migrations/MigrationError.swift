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
    case downWithoutUp(path: String)
    case duplicateVersion(String, String)
    case missingRequirement(system: String, requirement: String)
    case requirementCycle([String])
    case requiredByOthers(system: String, others: [String])
    case changed(system: String, title: String, applied: [UInt8], file: [UInt8], path: String, difference: String?)
    case renamed(system: String, version: Int, applied: String, file: String)
    case missingFile(system: String, title: String)
    case outOfOrder(system: String, title: String, applied: Int)
    case noWayDown(system: String, title: String)
    case unknownVersion(system: String, version: Int)
    case transactionControl(location: String, statement: String)
    case unnamedConcurrentIndex(location: String)
    case stepsInRepeatable(path: String)
    case otherSchema(system: String, recorded: String, configured: String)
    case stepsChanged(system: String, title: String, step: Int)
    case halfReverted(system: String, title: String)
    case invalidIndex(name: String, location: String)
    case failed(system: String, title: String, cause: any Error, blockers: [Blocker], attempts: Int)
    /// The migrations of a superuser could call functions of other roles in the schema.
    case openSchema(system: String, schema: String, roles: [String])
    case locked(holder: String?, wait: Duration)
    /// The connection was lost after the migration that `done` describes, and the run cannot continue.
    case lostAfter(done: String, cause: any Error)

    public var description: String {
        switch self {
        case .unreadable(let path, let reason): "\(path): \(reason)"
        case .badFileName(let path): "\(path): not a valid name of a migration file"
        case .badDirective(let location, let problem, _): "\(location): \(problem)"
        case .downWithoutUp(let path): "\(path): the .up.sql file of this migration is missing"
        case .duplicateVersion(let first, let second): "two migrations have the same version: \(first) and \(second)"
        case .missingRequirement(let system, let requirement):
            "the system '\(system)' requires '\(requirement)', which does not exist"
        case .requirementCycle(let names): "systems require each other: \(names.joined(separator: " → "))"
        case .requiredByOthers(let system, let others):
            "the system '\(system)' cannot be reverted, because it is required by \(others.joined(separator: ", "))"
        case .changed(let system, let title, let applied, let file, let path, let difference):
            "\(system)/\(title) was changed after it was applied: its checksum was \(Bytes(applied).hex.prefix(12)), and that of \(path) is \(Bytes(file).hex.prefix(12))"
                + (difference.map { "\n\($0)" } ?? "")
        case .renamed(let system, let version, let applied, let file):
            "version \(version) of \(system) was applied as '\(applied)', but its file is named '\(file)'"
        case .missingFile(let system, let title): "\(system)/\(title) was applied, but its file is missing"
        case .outOfOrder(let system, let title, let applied):
            "\(system)/\(title) is not applied, but the later version \(applied) is"
        case .noWayDown(let system, let title): "\(system)/\(title) cannot be reverted: it has no .down.sql file"
        case .unknownVersion(let system, let version): "the system '\(system)' has no version \(version)"
        case .transactionControl(let location, let statement):
            "\(location): \(statement) is not allowed, because the migration already runs in a transaction"
        case .stepsInRepeatable(let path):
            "\(path): a repeatable migration has a statement that cannot run in a transaction"
        case .unnamedConcurrentIndex(let location): "\(location): CREATE INDEX CONCURRENTLY has no index name"
        case .otherSchema(let system, let recorded, let configured):
            "the system '\(system)' was migrated in schema '\(recorded)', but '\(configured)' is configured"
        case .stepsChanged(let system, let title, let step):
            "\(system)/\(title) was interrupted, and its finished step \(step + 1) has been changed since"
        case .halfReverted(let system, let title):
            "\(system)/\(title) is partly reverted: a run of 'down' was interrupted"
        case .invalidIndex(let name, let location): "\(location): the index \(name) was built, but is invalid"
        case .failed(let system, let title, let cause, let blockers, let attempts):
            Self.describe(system, title, "\(cause)", blockers, attempts)
        case .openSchema(let system, let schema, let roles):
            "the schema '\(schema)' of the system '\(system)' may contain functions of \(roles.map { "'\($0)'" }.joined(separator: ", ")), which a migration could call with the rights of a superuser"
        case .locked(let holder, let wait):
            "another migration run held the lock for more than \(wait.components.seconds) s"
                + (holder.map { ": \($0)" } ?? "")
        case .lostAfter(let done, let cause): "\(done); then the connection was lost: \(cause)"
        }
    }

    private static func describe(
        _ system: String, _ title: String, _ cause: String, _ blockers: [Blocker], _ attempts: Int
    ) -> String {
        var text = "\(system)/\(title) failed"
        if attempts > 1 { text += " after \(attempts) attempts" }
        text += ": \(cause)"
        for blocker in blockers { text += "\nblocked by \(blocker)" }
        return text
    }

    /// The description with all details that the server reported.
    private var fullDescription: String {
        guard case .failed(let system, let title, let cause as PostgresError, let blockers, let attempts) = self else {
            return description
        }
        return Self.describe(system, title, cause.fullDescription, blockers, attempts)
    }

    public var hint: String? {
        switch self {
        case .badFileName: "name it NNNN_name.up.sql, NNNN_name.down.sql, R__name.sql or R__name.down.sql"
        case .badDirective(_, _, let hint): hint
        case .downWithoutUp: "give both files the same version and name"
        case .duplicateVersion: "give one of them the next free version"
        case .missingRequirement(_, let requirement): "add '\(requirement)' to the systems"
        case .requiredByOthers(_, let others):
            "revert \(others.joined(separator: ", ")) first, with 'reeve migrate down'"
        case .changed(_, let title, _, _, _, _):
            "restore the file as it was, and make the change in a new migration after \(title)"
        case .renamed(_, _, let applied, _): "change the name back to '\(applied)'"
        case .missingFile: "restore the file; to undo a migration, run 'reeve migrate down' while its files exist"
        case .outOfOrder: "give it the next free version, or apply it out of order with --out-of-order"
        case .noWayDown: "write the file, or restore a backup"
        case .unknownVersion: "list the versions with 'reeve migrate status'"
        case .transactionControl: "remove the statement"
        case .stepsInRepeatable: "move the statement to a versioned migration"
        case .unnamedConcurrentIndex:
            "name the index; without a name, an interrupted build cannot be found and repeated"
        case .otherSchema(_, let recorded, _):
            "configure schema '\(recorded)' for the system again, or revert the system first with 'reeve migrate down'"
        case .halfReverted(let system, _): "run 'reeve migrate down --system \(system)' again, then 'up'"
        case .stepsChanged: "restore the file as it was when the run was interrupted"
        case .invalidIndex(let name, _): "run 'reeve migrate up' again, which drops and rebuilds \(name)"
        case .failed(_, _, let cause, let blockers, _):
            blockers.isEmpty
                ? (cause as? PostgresError)?.hint
                : "wait until the blocking session has ended, or end it: SELECT "
                    + "pg_terminate_backend(\(blockers[0].process))"
        case .openSchema(_, let schema, let roles):
            "connect as the role that owns the schema, or REVOKE CREATE ON SCHEMA \(quoteIdentifier(schema)) and make the migrating role the owner of its objects, or trust \(roles.count == 1 ? "the role" : "them") with the setting trusted_roles"
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
            case .openSchema: .notPermitted
            case .failed(_, _, let cause, _, _): ErrorReport(cause).exitCode
            case .lostAfter: .temporary
            default: .failed
            }
        return ErrorReport(fullDescription, code: "migration", hint: hint, exitCode: exitCode)
    }
}

/// A session that holds a lock that a migration waits for.
public struct Blocker: Sendable, Equatable, CustomStringConvertible {
    public let process: Int
    public let user: String
    public let state: String
    public let query: String

    public var description: String {
        let line = query.split(whereSeparator: \.isWhitespace).joined(separator: " ").prefix(200)
        return "process \(process) of \(user), \(state): \(line)"
    }
}
