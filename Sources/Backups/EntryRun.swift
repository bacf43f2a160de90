import Foundation
import Postgres
import Reporting
import SQL
import Synchronization

/// An entry of the backup that the server refused. Everything else was restored.
public struct MissingEntry: Sendable, Equatable {
    /// The type of the entry, as pg_dump names it, in lower case: `index`, `materialized view data`.
    public let kind: String
    /// The schema and the name, as pg_restore lists them.
    public let object: String
    /// The server's message.
    public let reason: String

    public var description: String { "\(kind) \(visible(object)) was not restored: \(visible(reason))" }
}

/// Restores the entries of an archive that follow the rows, over several connections, in the order of their
/// dependencies.
///
/// The entries are run one by one, and not by `pg_restore -j`, so that the error of one entry does not end the restore,
/// and a deadlock between two entries is told apart from an entry that the server refuses: after a deadlock, the entry
/// is tried again.
final class EntryRun: Sendable {
    private let contents: TableOfContents
    private let scripts: [Int: ArchiveScript.Entry]
    /// The owners whose names pg_restore lists after the name of an entry.
    private let owners: [String]
    private let target: ConnectionSettings
    private let object: String
    private let state: Mutex<EntryQueue>

    /// - Parameters:
    ///   - contents: the entries to restore.
    ///   - object: the archive's name, for errors.
    init(
        _ contents: TableOfContents, _ script: ArchiveScript, owners: [String], into target: ConnectionSettings,
        object: String
    ) {
        self.contents = contents
        scripts = Dictionary(script.entries.map { ($0.id, $0) }) { first, _ in first }
        self.owners = owners
        var target = target.restoring
        // An entry may wait for another one that builds a large index.
        target.lockTimeout = .zero
        self.target = target
        self.object = object
        state = Mutex(EntryQueue(contents.entries))
    }

    /// Restores the entries.
    ///
    /// - Returns: the entries that the server refused.
    /// - Throws: `BackupError.notRestored` if the server was lost or lacked resources; `CancellationError`.
    func run(jobs: Int) async throws -> [MissingEntry] {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<max(1, min(jobs, contents.entries.count)) {
                group.addTask { [self] in try await work() }
            }
            for try await _ in group {}
        }
        return state.withLock { $0.failed }.map { entry, reason in
            MissingEntry(kind: (entry.type ?? "entry").lowercased(), object: name(of: entry), reason: reason)
        }
    }

    private func work() async throws {
        try await Connection.opened(target) { connection in
            while true {
                try Task.checkCancellation()
                switch state.withLock({ $0.next() }) {
                case .none: return
                case .later: try await Task.sleep(for: .milliseconds(20))
                case .entry(let entry):
                    let failure = try await make(entry, on: connection)
                    state.withLock { $0.finish(entry, failure: failure) }
                }
            }
        }
    }

    private static let attempts = 20

    /// Runs the statements of an entry.
    ///
    /// - Returns: the server's message if it refused the entry; nil if the entry was restored.
    private func make(_ entry: TableOfContents.Entry, on connection: Connection) async throws -> String? {
        guard let script = scripts[entry.id] else { return nil }
        for attempt in 1... {
            do {
                try await connection.with { _ = try $0.execute("\(script.sql);\n\(Confinement.leaveNothing)") }
                return nil
            } catch let error as PostgresError where error.sqlState == "40P01" && attempt < Self.attempts {
                // Other entries held the locks. They are done after a while.
                try await Task.sleep(for: .milliseconds(Int.random(in: 10...100) * attempt))
            } catch let error as PostgresError where error.kind == .server && !error.isOutage && !error.isTransient {
                return error.description
            } catch let error as PostgresError {
                throw BackupError.notRestored(object: object, reason: "\(name(of: entry)): \(error)")
            }
        }
        return nil
    }

    private func name(of entry: TableOfContents.Entry) -> String {
        let all = contents.names(of: entry)
        guard let owner = contents.owner(of: entry, among: owners) else {
            return all.trimmingCharacters(in: .whitespaces)
        }
        return String(all.dropLast(owner.count + 1))
    }
}
