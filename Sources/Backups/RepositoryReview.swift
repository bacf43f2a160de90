import Ledger
import Postgres

/// Compares what a repository contains with what is known about it. A repository shows nothing of what was left out:
/// one that was rolled back, or emptied, looks like a younger one. Pure: no I/O.
///
///     let review = RepositoryReview(of: contents, against: evidence)
///     guard review.problems.isEmpty else { … }
///     let latest = review.sound.last?.manifest
public struct RepositoryReview: Sendable {
    /// What a repository contains under the name of a database.
    public struct Contents: Sendable {
        public let place: String
        /// The identifier in the repository's mark; nil if it has none.
        public let mark: String?
        /// The database that the name belongs to; nil if the repository does not say so.
        public var owner: RepositoryOwner?
        /// Oldest first.
        public let manifests: [StoredManifest]
        /// The manifests that cannot be read, by the ID of the backup.
        public let damaged: [String: BackupError]

        public init(
            place: String, mark: String?, manifests: [StoredManifest], damaged: [String: BackupError] = [:]
        ) {
            self.place = place
            self.mark = mark
            self.manifests = manifests
            self.damaged = damaged
        }
    }

    /// What is known about the backups from elsewhere.
    public struct Evidence: Sendable {
        /// The backups that the ledger records, in all repositories; nil if the ledger could not be read.
        public var records: [BackupRecord]?
        /// The database that the backups are of (`Manifest.estate`); nil if it is not known.
        public var estate: String?
        /// The keys that manifests are signed with. If there are any, a manifest without a valid signature is refused.
        public var keys: [SigningKey] = []
        /// The present time. A backup that was begun more than an hour later is refused; clocks differ only a little.
        public var now = Timestamp.now

        public init() {}
    }

    /// What is wrong, the gravest first.
    public let problems: [RepositoryProblem]
    /// The backups that can be relied on, oldest first: those without a problem of their own.
    public let sound: [StoredManifest]
    /// The backups among them that neither the ledger nor a signature vouches for: their makers were killed before they
    /// told the ledger, or something else wrote them.
    public let unrecorded: Set<String>

    public init(of contents: Contents, against evidence: Evidence) {
        var problems: [RepositoryProblem] = []
        if contents.mark == nil { problems.append(.unmarked) }
        let records = evidence.records.map { Self.records($0, of: contents) }
        if let mark = contents.mark, let other = Self.otherMark(evidence.records ?? [], contents) {
            problems.append(.exchanged(expected: other, found: mark))
        }
        // What is not the known repository vouches for nothing in it.
        let isOurs = problems.isEmpty
        if let estate = evidence.estate, let owner = contents.owner, owner.estate != estate {
            problems.append(.owned(by: "\(owner)"))
        }
        var unsound: Set<String> = []
        for stored in contents.manifests {
            guard let problem = Self.problem(of: stored, records?[stored.manifest.id], evidence) else { continue }
            problems.append(problem)
            unsound.insert(stored.manifest.id)
        }
        if evidence.estate == nil {
            for stored in Self.intruders(contents.manifests) where unsound.insert(stored.manifest.id).inserted {
                problems.append(.foreign(id: stored.manifest.id, source: stored.manifest.shownSource))
            }
        }
        problems += contents.damaged.sorted { $0.key < $1.key }.map { .damaged(id: $0.key, reason: "\($0.value)") }
        problems += Self.missing(contents, records ?? [:])
        // What nobody vouches for says nothing about the others.
        problems += Self.broken(contents.manifests, isLinking: { Self.isVouchedFor($0, evidence) })
        let newest = Self.newestKnown(contents, records ?? [:])
        self.problems = problems.sorted { $0.rank(newest: newest) < $1.rank(newest: newest) }
        sound = isOurs ? contents.manifests.filter { !unsound.contains($0.manifest.id) } : []
        unrecorded = Set(sound.filter { !Self.isVouchedFor($0, evidence) }.map(\.manifest.id))
    }

    /// The sound backups that the ledger or a signature vouches for.
    public var usable: [StoredManifest] { sound.filter { !unrecorded.contains($0.manifest.id) } }

    /// Whether the ledger's record of a backup, in any repository, was made by the backup's maker, or the manifest is
    /// signed. Without a ledger, nothing is known. A test vouches for nothing: it compares a backup with its own
    /// manifest.
    private static func isVouchedFor(_ stored: StoredManifest, _ evidence: Evidence) -> Bool {
        guard let records = evidence.records, evidence.estate != nil else { return true }
        return stored.isSigned(with: evidence.keys)
            || records.contains {
                $0.id == stored.manifest.id && !$0.isFound
                    && ($0.manifests.isEmpty || $0.manifests.contains(stored.sha256))
            }
    }

    /// Returns the problem of a backup that is not usable.
    public func problem(with id: String) -> RepositoryProblem {
        problems.first { $0.id == id } ?? problems.first { $0.id == nil } ?? .unrecorded(id: id)
    }

    /// A repository's contents and their review.
    public struct Reviewed: Sendable {
        public let contents: Contents
        public let review: RepositoryReview

        public init(_ contents: Contents, against evidence: Evidence) {
            self.contents = contents
            review = RepositoryReview(of: contents, against: evidence)
        }
    }

    /// Returns the ID of a backup that is known and is newer than `manifest`: one that the ledger records in any
    /// repository, or one whose manifest is damaged or refused.
    ///
    /// - Parameter time: if given, only backups that began at or before this time are considered.
    public static func newer(
        than manifest: Manifest?, in reviewed: [Reviewed], _ evidence: Evidence, by time: Timestamp? = nil
    ) -> String? {
        let recorded = (evidence.records ?? []).filter { $0.excusedAt == nil }.map { (id: $0.id, began: $0.startedAt) }
        let refused = reviewed.flatMap { one in
            let (contents, sound) = (one.contents, Set(one.review.usable.map(\.manifest.id)))
            return contents.manifests.map(\.manifest).filter { !sound.contains($0.id) }.map {
                (id: $0.id, began: $0.began)
            }
                + contents.damaged.keys.compactMap { id in Manifest.time(ofID: id).map { (id: id, began: $0) } }
        }
        let known = (recorded + refused).filter { one in time.map { one.began <= $0 } ?? true }
        guard let last = known.max(by: { ($0.began, $0.id) < ($1.began, $1.id) }) else { return nil }
        guard let manifest else { return last.id }
        // The ID of a damaged manifest tells its time in whole seconds.
        return last.id != manifest.id && last.began > manifest.began ? last.id : nil
    }

    // MARK: Rules

    private static func records(_ all: [BackupRecord], of contents: Contents) -> [String: BackupRecord] {
        // Also those of another repository at this place: whoever changes the mark must not end the comparison. And
        // those of this repository at another address, such as a link.
        let own = all.filter {
            $0.place == contents.place || $0.repository != nil && $0.repository == contents.mark
        }
        return Dictionary(own.map { ($0.id, $0) }) { one, _ in one }
    }

    /// Returns the repository that the ledger knows at the place, if it is another one.
    private static func otherMark(_ records: [BackupRecord], _ contents: Contents) -> String? {
        let marks = records.filter { $0.place == contents.place }.compactMap(\.repository)
        return marks.contains { $0 == contents.mark } ? nil : marks.last
    }

    private static func problem(
        of stored: StoredManifest, _ record: BackupRecord?, _ evidence: Evidence
    ) -> RepositoryProblem? {
        let manifest = stored.manifest
        if manifest.began - .seconds(3600) > evidence.now {
            return .future(id: manifest.id, startedAt: manifest.startedAt)
        }
        if let record, !record.manifests.isEmpty, !record.manifests.contains(stored.sha256) {
            return .edited(id: manifest.id)
        }
        if !evidence.keys.isEmpty, !stored.isSigned(with: evidence.keys) {
            return stored.signature == nil ? .unsigned(id: manifest.id) : .forged(id: manifest.id)
        }
        // A backup that the ledger records belongs to this database, even if the database has another ledger by now.
        if let estate = evidence.estate, let other = manifest.estate, other != estate, record == nil {
            return .foreign(id: manifest.id, source: manifest.shownSource)
        }
        return nil
    }

    private static func missing(_ contents: Contents, _ records: [String: BackupRecord]) -> [RepositoryProblem] {
        let there = Set(contents.manifests.map(\.manifest.id)).union(contents.damaged.keys)
        let gone = records.values.filter { $0.excusedAt == nil && !there.contains($0.id) }
        if there.isEmpty, !gone.isEmpty { return [.emptied(backups: gone.count)] }
        return gone.sorted { $0.id < $1.id }.map { .missing(id: $0.id, finishedAt: $0.finishedAt.rfc3339) }
    }

    /// Finds manifests that name another one as their predecessor than the one that is there under that ID.
    private static func broken(
        _ manifests: [StoredManifest], isLinking: (StoredManifest) -> Bool
    ) -> [RepositoryProblem] {
        let byID = Dictionary(manifests.map { ($0.manifest.id, $0) }) { one, _ in one }
        return manifests.compactMap { stored in
            guard let link = stored.manifest.previous, let previous = byID[link.id], isLinking(stored) else {
                return nil
            }
            return (try? previous.link) == link ? nil : .broken(id: link.id, next: stored.manifest.id)
        }
    }

    /// Finds backups of other databases, if it is not known which database the backups are of. A database that takes over
    /// the backups of another one refers to the last of them.
    private static func intruders(_ manifests: [StoredManifest]) -> [StoredManifest] {
        let ids = Set(manifests.map(\.manifest.id))
        var known: Set<String> = []
        return manifests.filter { stored in
            guard let estate = stored.manifest.estate else { return false }
            let isExpected =
                known.isEmpty || known.contains(estate) || stored.manifest.previous.map { ids.contains($0.id) } == true
            if isExpected { known.insert(estate) }
            return !isExpected
        }
    }

    private static func newestKnown(_ contents: Contents, _ records: [String: BackupRecord]) -> String? {
        let ids = contents.manifests.map(\.manifest.id) + Array(contents.damaged.keys) + Array(records.keys)
        return ids.max()
    }
}

/// A problem that `RepositoryReview` finds.
public enum RepositoryProblem: Sendable, Equatable, CustomStringConvertible {
    case unmarked
    /// The backup was begun in the future.
    case future(id: String, startedAt: String)
    /// Nothing shows who made the backup.
    case unrecorded(id: String)
    /// Another repository is at the place than the one that the ledger knows there.
    case exchanged(expected: String, found: String)
    /// The name belongs to another database, so no backup would be made.
    case owned(by: String)
    /// The ledger records backups, and the repository has none.
    case emptied(backups: Int)
    /// A backup is gone that nothing has removed.
    case missing(id: String, finishedAt: String)
    case damaged(id: String, reason: String)
    /// The manifest is not the one that the ledger records.
    case edited(id: String)
    case forged(id: String)
    case unsigned(id: String)
    case foreign(id: String, source: String)
    /// The backup `next` names a predecessor with the ID `id` and another content.
    case broken(id: String, next: String)

    /// The backup that the problem is about; nil if it is about the whole repository.
    public var id: String? {
        switch self {
        case .unmarked, .exchanged, .emptied, .owned: nil
        case .unrecorded(let id), .future(let id, _), .missing(let id, _), .damaged(let id, _), .edited(let id),
            .forged(let id),
            .unsigned(let id),
            .foreign(let id, _), .broken(let id, _):
            id
        }
    }

    /// The order in which problems are told.
    fileprivate func rank(newest: String?) -> Int {
        switch self {
        case .exchanged, .unmarked: 0
        case .emptied, .owned: 1
        default: id == newest ? 2 : 3
        }
    }

    public var description: String {
        switch self {
        case .unmarked: "it has no mark of a repository"
        case .future(let id, let startedAt): "backup \(id) claims to have begun in the future, at \(startedAt)"
        case .unrecorded(let id):
            "the maker of backup \(id) has not recorded it in the ledger: it was killed, or something else wrote the "
                + "backup"
        case .exchanged(let expected, let found):
            "this is the repository \(found), but the ledger knows the repository \(expected) at this place"
        case .owned(let owner): "the backups under this name belong to another database: \(owner)"
        case .emptied(let backups):
            "it has no backups of this database, but the ledger records \(backups == 1 ? "one" : "\(backups)") there"
        case .missing(let id, let finishedAt):
            "backup \(id), finished at \(finishedAt), is gone, and nothing has removed it"
        case .damaged(let id, let reason): "the manifest of backup \(id) cannot be read: \(reason)"
        case .edited(let id): "the manifest of backup \(id) is not the one that the ledger records"
        case .forged(let id): "the signature of backup \(id) is not valid"
        case .unsigned(let id): "backup \(id) is not signed"
        case .foreign(let id, let source): "backup \(id) is of another database: '\(source)'"
        case .broken(let id, let next):
            "the manifest of backup \(id) is not the one that the next backup, \(next), refers to"
        }
    }

    public var hint: String {
        switch self {
        case .unmarked: "check that its disk is mounted; if it is, run 'reeve backup init'"
        case .future: "check the clock of this machine; if it is right, remove the folder of this backup by hand"
        case .unrecorded:
            "make a new backup; or, if this one is known to be genuine, use its ID or --allow-unverified"
        case .exchanged:
            "check that the right disk is mounted; to use this repository from now on, run 'reeve backup create "
                + "--adopt'"
        case .owned:
            "configure another name under 'databases:'; or, if this database has replaced the other, take the name over "
                + "with 'reeve backup create --adopt'"
        case .emptied:
            "check that the disk is mounted; if the backups are lost, run 'reeve backup forget --all'"
        case .missing:
            "look for a copy of the repository that has it; if it is lost, run 'reeve backup forget' with its ID"
        case .damaged: "copy its manifest from another repository, or remove the folder of this backup by hand"
        case .edited, .forged, .broken:
            "use another backup, or a copy of the repository that was made before the change"
        case .unsigned:
            "sign the backups that were made before the key was configured with 'reeve backup key sign'"
        case .foreign: "configure another name under 'databases:' for one of the databases"
        }
    }
}
