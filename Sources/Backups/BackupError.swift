import Reporting

/// Why there is no backup, or no restore.
public enum BackupError: Error, CustomStringConvertible {
    case badManifest(object: String, reason: String)
    case noPgDump(server: Int)
    case hiddenRows(role: String, table: String)
    case changing(attempts: Int)
    case locked(holder: String?)
    case noRecipients
    case noProgram(String)
    case part(object: String, reason: String)
    /// It could not be tried: that says nothing of the part.
    case notRestored(object: String, reason: String)
    case unknown(id: String)
    case needsIdentity(id: String)
    case cannotOpen(object: String, reason: String)
    /// What it would hold could not be read again.
    case unreadable(reason: String)
    /// The backup is there.
    case hookAfter(id: String, reason: String)
    case noRoom(place: String, free: Int, needed: Int)
    case notWritten([(place: String, reason: String)])
    case hook(name: String, reason: String)
    case targetLacks([String])
    case notInBackup(String)
    case targetHas([String])
    case unreachable(place: String, reason: String)
    case secretKeyword(String)
    case risky(table: String, what: String)
    case leftClosed(database: String, reopening: [String], cause: any Error)
    case held(holders: [String])
    case noBackup(place: String)
    case badOutput(program: String, reason: String)

    public var description: String {
        switch self {
        case .badManifest(let object, let reason): "\(object) is no manifest: \(reason)"
        case .noPgDump(let server): "no pg_dump is installed that can dump a server of version \(server)"
        case .hiddenRows(let role, let table): "row-level security of \(table) would hide rows from '\(role)'"
        case .changing(let attempts): "tables came and went during each of \(attempts) attempts to lock them"
        case .risky(let table, let what):
            "\(table) cannot be restored by a superuser: \(what) would run with the rights of a superuser"
        case .locked(let holder): "another backup of this database runs" + (holder.map { ": \($0)" } ?? "")
        case .noRecipients: "nobody is named who could read the backup"
        case .noProgram(let name): "the program \(name) is not installed"
        case .part(let object, let reason): "\(object): \(reason)"
        case .notRestored(let object, let reason): "\(object) could not be restored: \(reason)"
        case .unknown(let id): "there is no backup '\(id)'"
        case .cannotOpen(let object, let reason): "\(object) cannot be opened: \(reason)"
        case .noRoom(let place, let free, let needed):
            "\(place) has \(free >> 20) MiB free, and about \(needed >> 20) MiB are needed"
        case .notWritten(let places): places.map { "\($0.place): \($0.reason)" }.joined(separator: "; ")
        case .unreadable(let reason): "the backup could not be read again: \(reason)"
        case .hookAfter(let id, let reason):
            "backup \(id) was made; its hook backup.hooks.after failed: \(reason)"
        case .hook(let name, let reason): "the hook backup.hooks.\(name) failed: \(reason)"
        case .targetLacks(let what): "the target's server lacks \(what.joined(separator: ", "))"
        case .unreachable(let place, let reason): "the repository \(place) cannot be looked into: \(reason)"
        case .secretKeyword(let keyword):
            "'\(keyword)' of the connection string cannot be handed to PostgreSQL's programs"
        case .targetHas(let names): "the target has already: \(names.joined(separator: ", "))"
        case .leftClosed(let database, _, let cause):
            "\(cause); the database '\(database)' stays closed, and is not its owner's for now"
        case .held(let holders):
            "a table could not be locked in time"
                + (holders.isEmpty ? "" : ", which is held by \(holders.joined(separator: "; "))")
        case .noBackup(let place): "the repository \(place) has no backup of that name"
        case .badOutput(let program, let reason): "what \(program) wrote is no part of a backup: \(reason)"
        case .notInBackup(let name): "the backup holds no \(name)"
        case .needsIdentity(let id): "backup \(id) is encrypted, and no identity is given"
        }
    }

    public var hint: String? {
        switch self {
        case .badManifest: "the backup counts as not there; 'reeve backup list' shows the others"
        case .noPgDump(let server): "install postgresql-client-\(server)"
        case .hiddenRows(let role, _): "ALTER ROLE \(role) BYPASSRLS, or back up as a superuser"
        case .changing: "try again when fewer tables are made and dropped"
        case .locked: "wait for it, or give --lock-wait"
        case .risky: "restore the whole backup into another database, where such constraints are put off"
        case .noRecipients: "make a key with 'reeve backup key new' and name its recipient in backup.recipients"
        case .noProgram(let name): "install the package \(name)"
        case .part: "'reeve backup verify' tells about every part"
        case .notRestored: "this says nothing of the backup; try again when the reason is gone"
        case .unknown: "'reeve backup list' shows what there is"
        case .cannotOpen: "give the identity of one of the backup's recipients; 'reeve backup show' names them"
        case .noRoom: "remove what is not needed, or let 'reeve backup prune' do it"
        case .notWritten: "what is in the other repositories is whole"
        case .unreadable: "change what is named; nothing was made"
        case .hook, .hookAfter: "run it by hand to see what it says"
        case .targetLacks: "install the extensions there, and make the roles, or give --roles"
        case .unreachable: "check that it can be reached and read"
        case .secretKeyword: "write it into a service file (PGSERVICEFILE), and name that by service=…"
        case .targetHas: "restore beside it with --into-schema, or move what is there away first"
        case .leftClosed(_, let statements, _):
            "drop it, or give it back when it is what it should be: \(statements.joined(separator: "; "))"
        case .held: "wait for it, or end it with pg_terminate_backend, or a prepared transaction with ROLLBACK PREPARED"
        case .noBackup: "'reeve backup list' shows what is where"
        case .badOutput(let program, _): "run \(program) by hand to see what it does"
        case .notInBackup: "'reeve backup show' lists the tables"
        case .needsIdentity: "give the file with --identity, or set backup.identity"
        }
    }
}

extension BackupError: ReportedError {
    public static let codes = [
        ErrorCode(
            "backup", [.failed, .usage, .notPermitted, .locked, .temporary],
            "A backup, its verification, its test or its restore failed.")
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .locked: .locked
            case .notRestored: .temporary
            case .hiddenRows: .notPermitted
            case .noRecipients, .unknown, .needsIdentity: .usage
            default: .failed
            }
        return ErrorReport(description, code: "backup", hint: hint, exitCode: exitCode)
    }
}
