import Backups
import Kernel
import Postgres
import Processes

extension Interruption {
    /// Makes a backup; when a signal stops that, says whether there is one all the same.
    func telling(
        _ work: BackupWork, _ settings: BackupMaker.Settings,
        _ body: (BackupMaker.Settings) async throws -> BackupMaker.Result
    ) async throws -> BackupMaker.Result {
        // Another process may make one while this one waits for the lock.
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

    /// The manifest is written last: with it there is a backup, whatever was cut short after it.
    private func tell(_ work: BackupWork, _ own: Set<String>) async {
        let (repositories, database) = (work.repositories, work.open.name)
        stands("whether a backup was made is not known; 'reeve backup list' tells")
        // A task of its own, for this one is cancelled; if a repository hangs, the sentence above holds.
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

    /// Says what a restore leaves if it is stopped.
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
