import Postgres

/// What happens during a run of migrations, for its progress report.
public enum MigrationEvent: Sendable {
    /// A migration begins.
    case begins(MigrationAction)
    /// A migration was applied or reverted.
    case ended(MigrationAction, milliseconds: Int)
    /// The server has sent a notice or a warning, for instance from RAISE NOTICE.
    case notice(MigrationAction, ServerNotice)
    /// A statement that waits without a time limit, such as CREATE INDEX CONCURRENTLY, waits for other sessions.
    case waits(MigrationAction, [Blocker])
    /// A migration did not get its locks, and is tried again after a pause. `stall` is how long other sessions may have
    /// waited because of all attempts so far.
    case retries(MigrationAction, attempt: Int, blockers: [Blocker], stall: Duration, pause: Duration)
    /// A statement is run again, because an earlier run was interrupted while the statement ran, or the statement
    /// failed, and it is not known what it did.
    case repeats(MigrationAction, location: String)
    /// Another run holds the lock.
    case waitsForRun(holder: String)

    /// The migration that the event is about; nil if it is about the whole run.
    public var action: MigrationAction? {
        switch self {
        case .begins(let action), .ended(let action, _), .notice(let action, _), .waits(let action, _),
            .retries(let action, _, _, _, _), .repeats(let action, _):
            action
        case .waitsForRun: nil
        }
    }

    /// A description in one line or more, without the name of the migration.
    public var message: String {
        switch self {
        case .begins(let action):
            "\(action.direction == .up ? "applying" : "reverting") \(action.title)"
        case .ended(let action, let milliseconds):
            "\(action.title) was \(action.direction == .up ? "applied" : "reverted") in \(milliseconds) ms"
        case .notice(let action, let notice):
            // Further lines are indented, so that they do not look like messages of Reeve.
            "\(action.title): \(notice.severity): "
                + notice.message.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\n    ")
        case .waits(let action, let blockers):
            "\(action.title) waits for \(blockers.map(\.description).joined(separator: "\n  and "))"
        case .retries(let action, let attempt, let blockers, let stall, let pause):
            "\(action.title): attempt \(attempt) did not get its locks; the next one begins in \(Self.seconds(pause)); "
                + "other sessions waited for at most \(Self.seconds(stall)) so far"
                + blockers.map { "\n  blocked by \($0)" }.joined()
        case .repeats(let action, let location):
            "\(action.title): \(location) did not finish in an earlier run, and is run again"
        case .waitsForRun(let holder): "waiting for another run of migrations: \(holder)"
        }
    }

    static func seconds(_ duration: Duration) -> String {
        let milliseconds = duration.milliseconds
        return milliseconds < 1000
            ? "\(Int(milliseconds)) ms" : "\(Int(milliseconds / 100) / 10).\(Int(milliseconds / 100) % 10) s"
    }
}

extension MigrationAction {
    /// `system/0001_name`.
    public var title: String { "\(system.name)/\(migration.title)" }
}
