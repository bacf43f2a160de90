import Backups
import Kernel
import Postgres
import Processes

extension Interruption {
    /// Makes a backup. If a signal stops it, reports whether the backup nevertheless exists.
    func telling(
        _ work: BackupWork, _ settings: BackupMaker.Settings,
        _ body: (BackupMaker.Settings) async throws -> BackupMaker.Result
    ) async throws -> BackupMaker.Result {
        // Remember the IDs of the backups that this process makes, to distinguish them from backups that another
        // process makes while this process waits for the lock.
        let own = Gathered<String>()
        var settings = settings
        settings.begun = { own.add([$0]) }
        do {
            let result = try await body(settings)
            did("backup \(result.manifest.id) of '\(work.open.name)' was made")
            stands("")
            return result
        } catch {
            if signal != nil { await tell(work, Set(own.all)) }
            throw error
        }
    }

    /// Reports whether one of the process's own backups exists. The manifest is written last, so a backup with a
    /// manifest is complete, even if later work was interrupted.
    private func tell(_ work: BackupWork, _ own: Set<String>) async {
        let (repositories, database) = (work.repositories, work.open.name)
        stands("it is not known whether a backup was made; 'reeve backup list' shows the existing backups")
        // This runs in a separate task, because the current task is cancelled. If a repository hangs, the state that
        // was set above remains.
        let looking = Task { () async throws -> [String] in
            var made: [String] = []
            for repository in repositories {
                made += try await repository.manifests(of: database).map(\.id).filter(own.contains)
            }
            return made
        }
        guard let made = try? await looking.value else { return }
        guard let id = made.first else {
            return stands("no backup of '\(database)' was made; the next backup removes the partly written objects")
        }
        did("backup \(id) of '\(database)' was made")
        stands("the backup may be missing from the ledger")
    }

    /// Sets the state to report if a restore is stopped.
    func restores(_ order: BackupWork.RestoreOrder, into target: ConnectionSettings) {
        let name = target.parameters["dbname"].map { "'\($0)'" } ?? "the target"
        if !order.selection.isEmpty {
            stands(
                "\(name) has either all of the tables or none, because one transaction restores them; foreign keys "
                    + "are created afterwards, each in its own transaction; 'reeve doctor --only restores' shows which "
                    + "foreign keys are missing, and the same restore command with --constraints creates them")
        } else if order.replaces {
            stands(
                "\(name) is either unchanged or completely restored; a database with _new_ in its name can be dropped")
        } else {
            stands(
                "\(name) may contain a part of the backup; if so, drop \(name), and restore into a new database; if "
                    + "the restoring role is a superuser, \(name) is also closed (CONNECTION LIMIT 0), and belongs to "
                    + "that role")
        }
    }
}
