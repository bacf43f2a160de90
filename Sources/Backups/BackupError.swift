import Postgres
import Reporting
import Storage

/// The reason why a backup or a restore failed.
public enum BackupError: Error, CustomStringConvertible {
    case badManifest(object: String, reason: String)
    case noPgDump(server: Int)
    case hiddenRows(role: String, table: String)
    case changing(attempts: Int, last: String)
    case locked(holder: String?)
    case lockLost
    /// The repository contains backups of another database, `owner`, under this name. `isCopy`: whether this database
    /// has the same ledger, so that one of the two is a copy of the other.
    case foreign(place: String, name: String, owner: RepositoryOwner, isCopy: Bool = false)
    /// The restored database `made` could not be renamed to `database`, the name of the database that it replaces.
    /// `statements`: the statements that rename both databases.
    case notExchanged(database: String, made: String, statements: [String], cause: any Error)
    /// The server's answer to the COMMIT of the transaction that renames both databases is lost. `later`: the new name
    /// of the former database if the transaction was committed.
    case exchangeUnknown(database: String, made: String, later: String, statements: [String], cause: any Error)
    case prepared(database: String, transactions: [String])
    case noRecipients
    case noProgram(String)
    case part(object: String, reason: String)
    /// The object could not be restored or read for a reason that does not lie in the object, such as a full disk or a
    /// lost server. The error does not mean that the backup is damaged.
    case notRestored(object: String, reason: String)
    /// `statement`: the statement that had been running for the longest time.
    case testTimedOut(limit: Duration, statement: String?)
    /// The server cannot read one of the tables.
    case unreadableTable([String], reason: String)
    /// - Parameter known: the backups that there are.
    case unknown(id: String, known: [String] = [])
    /// No identity is given, but the backup is encrypted. If `id` is nil, the command reads all encrypted backups.
    case needsIdentity(id: String?)
    /// The manifest is signed, and would have to be signed again.
    case needsSigningKey(id: String)
    case cannotOpen(object: String, reason: String)
    /// No backup was made, because its manifest would be refused when it is read back.
    case unreadable(reason: String)
    /// The backup was made, but the hook `backup.hooks.after` failed.
    case hookAfter(id: String, reason: String)
    case noRoom(place: String, free: Int, needed: Int)
    case notWritten([(place: String, reason: String)])
    case hook(name: String, reason: String)
    case targetLacks([String])
    case notInBackup(String)
    /// What was named as a table is something else, such as a view.
    case notTable(String, kind: String)
    /// No backup of the database has this table.
    case notInAnyBackup(String)
    /// The partition cannot be restored in this way without `root`: a scratch server distributes the rows of all its
    /// partitions anew.
    case routed(table: String, root: String)
    /// The restored tables need these objects, which the target lacks, and which are not created with the tables.
    case needed([String])
    case targetHas([String])
    /// The target already has the tables `names`, because a restore of `backup` is unfinished. `missing`: the
    /// constraints that the restore has not made yet. `schema`: the schema that contains the record of the restore.
    case unfinished(names: [String], backup: String, missing: [String], schema: String)
    /// The restored tables no longer exist, or other tables now have their names. `schema`: the schema that contains
    /// the record of the restore.
    case notThoseRestored([String], schema: String)
    /// The target has no record that the current role has begun, and not finished, a restore of these tables.
    case noUnfinished([String])
    /// The tables were restored, but the restore was not completed. `missing`: the constraints that were not made.
    /// `findings`: the other messages of the restore.
    case constraintsLeft(missing: [String], findings: [String], cause: any Error)
    /// The server's answer to the COMMIT that creates the restored tables is lost. The tables were restored if the
    /// schema `schema` exists.
    case outcomeUnknown(schema: String, reason: String, cause: any Error)
    case unreachable(place: String, reason: String)
    case secretKeyword(String)
    case risky(table: String, what: String)
    /// Inserting a row into the table would call a function of a role that is not trusted, in a superuser's session.
    case untrusted(table: String, what: String, role: String)
    /// The backup contains a function, an operator or similar code of a role that is not trusted.
    case foreignCode(what: String, role: String?)
    /// The database that is to be filled already contains code of a role that is not trusted.
    case foreignTarget(what: String, role: String)
    /// Expressions of the table use the schema, and a role that is not trusted owns objects in that schema or may
    /// create objects there.
    case openSchema(table: String, schema: String, role: String)
    /// The restore has masking rules, but its role is not a superuser. Such a role cannot keep other sessions out of
    /// the database until the rows are masked.
    case maskingInPublic(database: String)
    /// The restore has made its role the owner of the database, and then failed. `reopening`: if the contents are
    /// complete, the statements that return the database to its former owner; otherwise nil.
    case leftClosed(database: String, reopening: [String]?, cause: any Error)
    case held(holders: [String])
    case noBackup(place: String)
    case badOutput(program: String, reason: String)
    /// The repository is empty, but the ledger records backups in it.
    case emptied(place: String, name: String, backups: Int)
    /// The ledger knows another repository at this place.
    case exchanged(place: String, expected: String, found: String)
    /// A problem of a repository that `RepositoryReview` has found.
    case review(place: String, RepositoryProblem)
    /// A restore of `backup` into this database is unfinished.
    case beingRestored(backup: String)
    /// The newest backup that can be used is older than one that is known. `found`: the newest one that can be used.
    case older(found: String?, known: String)
    /// The backup cannot be forgotten, because the ledger does not record it as gone.
    case notGone(id: String)
    /// The repositories have no backups under the name of the database. `others`: the names that they have, each with
    /// its place and the number of backups.
    case noneOf(name: String, others: [String])
    /// The repository answers, but this manifest could not be read.
    case manifestNotRead(object: String, cause: StorageError)

    public var description: String {
        switch self {
        case .badManifest(let object, let reason): "\(object) is not a valid manifest: \(reason)"
        case .noPgDump(let server): "no installed pg_dump can dump a server of version \(server)"
        case .hiddenRows(let role, let table): "row-level security of \(table) would hide rows from '\(role)'"
        case .changing(let attempts, let last):
            "tables or types were created, altered or dropped during each of \(attempts) attempts"
                + (last.isEmpty ? "" : "; at last: \(visible(last))")
        case .risky(let table, let what):
            "\(table) cannot be restored by a superuser: \(what) would run with the rights of a superuser"
        case .untrusted(let table, let what, let role):
            "\(table) cannot be restored by a superuser: \(what) calls a function of '\(role)', a role that is not "
                + "trusted"
        case .foreignCode(let what, let role):
            "the backup contains code of \(role.map { "the role '\(visible($0))'" } ?? "a role"), which is not "
                + "trusted: "
                + visible(what)
        case .foreignTarget(let what, let role):
            "the target contains code of the role '\(visible(role))', which is not trusted: \(visible(what))"
        case .openSchema(let table, let schema, let role):
            "\(table) cannot be restored by a superuser: its definition uses the schema \(schema), in which '\(role)', "
                + "a role that is not trusted, owns objects or may create them"
        case .maskingInPublic(let database):
            "cannot mask '\(visible(database))': without superuser rights, other roles could read the rows before they "
                + "are masked"
        case .locked(let holder): "another backup of this database is running" + (holder.map { ": \($0)" } ?? "")
        case .lockLost: "the lock on the backups of this database was lost; another process may hold it now"
        case .foreign(let place, let name, let owner, false):
            "the backups under the name '\(name)' in \(place) belong to another database: \(owner)"
        case .foreign(let place, let name, let owner, true):
            "the backups under the name '\(name)' in \(place) belong to \(owner), and this is another database with "
                + "the same ledger: a copy of it, or the same database after a move to another server"
        case .notExchanged(let database, let made, _, let cause):
            "\(cause); '\(database)' is unchanged, and the backup was restored into the database '\(made)'"
        case .exchangeUnknown(let database, let made, _, _, let cause):
            "\(cause); it is not known whether the restored database '\(made)' was renamed to '\(database)'"
        case .prepared(let database, let transactions):
            "cannot restore into '\(database)', because it has prepared transactions: "
                + transactions.map { visible($0) }.joined(separator: ", ")
        case .noRecipients: "the backup cannot be encrypted: no recipients are configured"
        case .noProgram(let name): "the program \(name) is not installed"
        case .part(let object, let reason): "\(object): \(reason)"
        case .testTimedOut(let limit, let statement):
            "the restore test did not end within \(Int(limit.inSeconds)) s"
                + (statement.map { "; the server was carrying out: \(visible($0))" } ?? "")
        case .notRestored(let object, let reason): "\(object) could not be restored: \(reason)"
        case .unreadableTable(let tables, let reason):
            (tables.count == 1 ? tables[0] : "one of the tables \(tables.joined(separator: ", "))")
                + " cannot be read: \(reason)"
        case .unknown(let id, _): "the backup '\(id)' does not exist"
        case .cannotOpen(let object, let reason): "\(object) cannot be opened: \(reason)"
        case .noRoom(let place, let free, let needed):
            "\(place) has \(free >> 20) MiB free, but about \(needed >> 20) MiB are needed"
        case .notWritten(let places): places.map { "\($0.place): \($0.reason)" }.joined(separator: "; ")
        case .unreadable(let reason): "the backup would not be readable: \(reason)"
        case .hookAfter(let id, let reason):
            "backup \(id) was made, but the hook backup.hooks.after failed: \(reason)"
        case .hook(let name, let reason): "the hook backup.hooks.\(name) failed: \(reason)"
        case .targetLacks(let what): "the target server lacks \(what.joined(separator: ", "))"
        case .unreachable(let place, let reason): "the repository \(place) cannot be read: \(reason)"
        case .secretKeyword(let keyword):
            "'\(keyword)' in the connection string cannot be passed to PostgreSQL's programs"
        case .targetHas(let names): "the target already has \(names.joined(separator: ", "))"
        case .unfinished(let names, let backup, let missing, _):
            "the target already has \(names.joined(separator: ", ")): a restore of \(backup) is unfinished"
                + (missing.isEmpty ? "" : "; it has yet to create \(missing.joined(separator: ", "))")
        case .notThoseRestored(let names, _):
            "the objects that were restored as \(names.joined(separator: ", ")) are no longer in the target"
        case .noUnfinished(let names):
            "the target has no record of an unfinished restore of \(names.joined(separator: ", ")) by this role"
        case .constraintsLeft(let missing, let findings, let cause):
            "\(cause); the tables were restored, but "
                + (missing.isEmpty
                    ? "the restore was not completed" : "constraints are missing: \(missing.joined(separator: ", "))")
                + findings.map { "; \($0)" }.joined()
        case .outcomeUnknown(_, let reason, let cause):
            "\(cause); it is not known whether the tables were restored: \(reason)"
        case .leftClosed(let database, _, let cause):
            "\(cause); the database '\(database)' still refuses connections and belongs to the restoring role"
        case .held(let holders):
            "a table or a schema could not be locked within the time limit"
                + (holders.isEmpty
                    ? "" : "; it is locked or requested by \(holders.joined(separator: "; "))")
        case .noBackup(let place): "the repository \(place) does not contain this backup"
        case .badOutput(let program, let reason): "\(program) did not write a valid backup part: \(reason)"
        case .notInBackup(let name): "the backup has no \(name)"
        case .notTable(let name, let kind): "\(name) is a \(kind), and only tables can be restored alone"
        case .notInAnyBackup(let name): "the backups have no \(name)"
        case .routed(let table, let root):
            "\(table) cannot be restored without \(root) here: which partition a row belongs to differs in each database"
        case .needed(let what): "the tables need objects that the target lacks: \(what.joined(separator: ", "))"
        case .needsIdentity(let id):
            (id.map { "backup \($0) is" } ?? "the backups are") + " encrypted, and no identity is given"
        case .needsSigningKey(let id): "the manifest of backup \(id) is signed, and no signing key is configured"
        case .emptied(let place, let name, let backups):
            "\(place) contains no backups of '\(name)', but the ledger records \(counted(backups, "backup")) there"
        case .beingRestored(let backup):
            "a restore of \(visible(backup)) into this database is unfinished, so the database contains a part of it"
        case .notGone(let id): "the ledger does not record the backup '\(id)' as missing"
        case .noneOf(let name, let others):
            "the repositories have no backups of '\(name)'"
                + (others.isEmpty ? "" : "; they have \(others.joined(separator: ", "))")
        case .exchanged(let place, let expected, let found):
            "\(place) is the repository \(found), but the ledger knows the repository \(expected) there"
        case .review(let place, let problem): "\(place): \(problem)"
        case .older(let found, let known):
            "the newest backup, \(known), cannot be used"
                + (found.map { "; the newest one that can is \($0)" } ?? ", and no other can")
        case .manifestNotRead(let object, let cause): "the manifest \(object) could not be read: \(cause)"
        }
    }

    public var hint: String? {
        switch self {
        case .badManifest: "the backup is ignored; 'reeve backup list' shows the others"
        case .noPgDump(let server): "install postgresql-client-\(server)"
        case .hiddenRows(let role, _): "run ALTER ROLE \(role) BYPASSRLS, or back up as a superuser"
        case .changing:
            "stop what makes these changes until the backup has begun; a superuser can hold them up, and with a larger "
                + "max_locks_per_transaction the tables stay locked"
        case .locked: "wait until it has ended, or raise the limit with --lock-wait"
        case .lockLost: "check the connection, and try again; the next backup removes the partly written objects"
        case .foreign(_, let name, _, true):
            "if the other database is in use, configure another name under 'databases:' for this one; if this one has "
                + "replaced it, take the backups over with 'reeve backup create --adopt --confirm=\(name)'"
        case .foreign(_, let name, _, false):
            "configure another name under 'databases:', or another repository; if the ledger of this database was "
                + "recreated, take the backups over with 'reeve backup create --adopt --confirm=\(name)'"
        case .notExchanged(_, let made, let statements, _):
            "connect to another database and run '\(statements.joined(separator: "; "))'; or drop '\(made)'"
        case .exchangeUnknown(_, let made, let later, let statements, _):
            "list the databases: if '\(later)' exists, nothing is left to do; if '\(made)' exists, connect to another "
                + "database and run '\(statements.joined(separator: "; "))'"
        case .prepared: "connect to that database, and end them with COMMIT PREPARED or ROLLBACK PREPARED"
        case .risky: "restore the whole backup into another database; a whole restore adds such constraints last"
        case .foreignCode(_, let role?):
            "trust the role with --trust \(role) or the setting trusted_roles, or restore as a role that is not a "
                + "superuser"
        case .foreignCode(_, nil):
            """
            if the owner of that code does not exist on this server, restore with --roles; otherwise restore as a role \
            that is not a superuser
            """
        case .foreignTarget: "restore into a new database that belongs to the restoring role"
        case .openSchema(_, let schema, let role):
            "make sure that no other role owns or may create objects in \(schema), or trust the role with "
                + "--trust \(role) or the setting trusted_roles"
        case .maskingInPublic:
            "restore as a superuser, or restore single tables or schemas, which are masked before they reach the target"
        case .untrusted(_, _, let role):
            "restore as the role that owns the tables, or trust the role with --trust \(role) or the setting "
                + "trusted_roles"
        case .noRecipients: "make a key with 'reeve backup key new' and add its recipient to backup.recipients"
        case .noProgram(let name): "install the package \(name)"
        case .part: "check all parts with 'reeve backup verify'"
        case .testTimedOut:
            "nothing was proved; raise the limit with --timeout, or look whether the statement calls a function that does "
                + "not return"
        case .notRestored: "fix the cause, and try again; the failure does not mean that the backup is damaged"
        case .unreadableTable: "'pg_dump --table' shows whether the server can read the table at all"
        case .unknown(let id, let known): didYouMean(id, among: known) ?? "list the backups with 'reeve backup list'"
        case .cannotOpen: "use the identity of one of the backup's recipients; 'reeve backup show' lists them"
        case .noRoom: "free some space, or remove old backups with 'reeve backup prune'"
        case .notWritten: "the backup is complete in the other repositories"
        case .unreadable: "fix the cause, and try again; no backup was made"
        case .hook, .hookAfter: "run the hook by hand to see its output"
        case .targetLacks: "install the extensions and create the roles there, or create the roles with --roles"
        case .unreachable: "check that the repository is reachable and readable"
        case .secretKeyword: "put it into a service file (PGSERVICEFILE) and name the service with service=…"
        case .targetHas:
            "restore into another schema with --into-schema, or rename the existing objects first"
        case .unfinished(_, _, _, let schema):
            "run the same command with --constraints, which creates the missing constraints; or drop the tables and "
                + "the schema \(schema), and restore the tables again"
        case .notThoseRestored(_, let schema):
            "drop the schema \(schema), which records that restore, and restore again"
        case .noUnfinished: "list the unfinished restores with 'reeve doctor --only restores'"
        case .constraintsLeft: "run the same command with --constraints, which creates the missing constraints"
        case .outcomeUnknown(let schema, _, _):
            "look for the schema \(schema) in the target: if it exists, the tables were restored; then run the same "
                + "command with --constraints"
        case .leftClosed(_, let statements?, _):
            "all data were restored: fix the cause, then run \(statements.joined(separator: "; ")); or drop the "
                + "database"
        case .leftClosed(_, nil, let cause):
            ((cause as? any ReportedError)?.report.hint.map { "\($0); " } ?? "")
                + "drop the database, which contains a part of the backup"
        case .held:
            "wait, or end a session with pg_terminate_backend, or a prepared transaction with ROLLBACK PREPARED"
        case .noBackup: "list the backups of each repository with 'reeve backup list'"
        case .badOutput(let program, _): "run \(program) by hand to see what it writes"
        case .notTable:
            "restore the backup into another database, and run 'reeve schema diff --mend' to create it in this one"
        case .notInBackup, .notInAnyBackup: "list the tables with 'reeve backup show'"
        case .routed(_, let root): "restore \(root), with all its partitions"
        case .needed: "create them first, or restore whole schemas with --schema"
        case .needsIdentity: "name the identity file with --identity, or set backup.identity"
        case .needsSigningKey: "set backup.signing_key to the file with the key"
        case .emptied(_, let name, _):
            "check that the disk of this repository is mounted; if the backups are lost, start again with "
                + "'reeve backup create --adopt --confirm=\(name)'"
        case .exchanged(_, _, _):
            "check that the right disk is mounted; to use this repository from now on, add --adopt to 'reeve backup "
                + "create'"
        case .beingRestored: "wait until the restore has ended; if it was interrupted, restore again with --confirm"
        case .notGone: "list the missing backups with 'reeve backup list'"
        case .noneOf(_, let others) where others.isEmpty: "check backup.repository"
        case .noneOf: "name the database under 'databases:' as its backups are named"
        case .review(_, let problem): problem.hint
        case .older(nil, _): "look for a copy of the repository that has it"
        case .older: "look for a copy of the repository that has it; to go on with the older one, add --allow-older"
        case .manifestNotRead: "check that the whole repository can be read; until then, the backup is ignored"
        }
    }
}

extension BackupError: ReportedError {
    public static let codes = [
        ErrorCode(
            "backup", [.failed, .usage, .finding, .notPermitted, .locked, .temporary],
            "A backup, or its verification, test or restore, failed.")
    ]

    public var report: ErrorReport {
        let exitCode: ExitCode =
            switch self {
            case .locked: .locked
            case .notRestored, .testTimedOut, .held: .temporary
            case .hiddenRows, .foreign, .risky, .untrusted, .foreignCode, .foreignTarget, .openSchema, .maskingInPublic:
                .notPermitted
            case .noRecipients, .unknown, .needsIdentity, .needsSigningKey, .notGone, .noneOf: .usage
            case .review, .older: .finding
            case .leftClosed(_, _, let cause): (cause as? any ReportedError)?.report.exitCode ?? .failed
            default: .failed
            }
        return ErrorReport(description, code: "backup", hint: hint, exitCode: exitCode)
    }
}
