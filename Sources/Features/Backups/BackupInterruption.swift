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
        // Remember the IDs of this process's backups, because another process may make a backup while this one waits
        // for the lock.
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
        stands("whether a backup was made is not known; 'reeve backup list' tells")
        // A separate task, because this one is cancelled. If a repository hangs, the state set above remains.
        let looking = Task { () async throws -> [String] in
            var made: [String] = []
            for repository in repositories {
                made += try await repository.manifests(of: database).map(\.id).filter(own.contains)
            }
            return made
        }
        guard let made = try? await looking.value else { return }
        guard let id = made.first else {
            return stands("no backup of '\(database)' was made; what was written of one is cleared by the next")
        }
        did("backup \(id) of '\(database)' was made")
        stands("the ledger may not know of it")
    }

    /// Sets the state to report if a restore is stopped.
    func restores(_ order: BackupWork.RestoreOrder, into target: ConnectionSettings) {
        let name = target.parameters["dbname"].map { "'\($0)'" } ?? "the target"
        if !order.selection.isEmpty {
            stands(
                "the tables come into \(name) in one transaction: all of them are there, or none; their foreign keys come "
                    + "after it, each in a transaction of its own; 'reeve doctor --only restores' tells what is missing, "
                    + "and the same command with --constraints makes it")
        } else if order.replaces {
            stands(
                "\(name) is as it was, or wholly restored; a database beside it with _new_ in its name can be dropped")
        } else {
            stands(
                "\(name) may hold a part of the backup; then it stays closed (CONNECTION LIMIT 0), and this role's, where "
                    + "this role is a superuser: drop it, and restore into a new one")
        }
    }
}
