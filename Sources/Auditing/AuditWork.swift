import Foundation
import Kernel
import Ledger
import Postgres
import Storage
import Telemetry

/// Makes and checks the anchors of one database's audit chain. Anchors are signed with a key that the database does not
/// contain, and are stored where the owner of the database has no access.
public struct AuditWork: Sendable {
    public static let key = Setting<String?>(
        "audit.key", .path,
        "The file with the key for the anchors of the audit chain; by default audit.key in the state folder. It is "
            + "created if it does not exist.")

    let open: OpenDatabase
    let configuration: Configuration
    let logger: Logger
    public let places: [any AnchorPlace]
    /// The time limit for a call on one place.
    let limit: Duration

    /// Creates a value that stores the anchors in all configured places: the state folder and every repository.
    public init(open: OpenDatabase, configuration: Configuration, logger: Logger) {
        let stores = RepositorySettings.stores(configuration)
        self.init(
            open: open, configuration: configuration, logger: logger,
            places: [AnchorFile(state: configuration.stateFolder)]
                + stores.map { AnchorFolder(store: $0.blocking) },
            limit: min(.seconds(60), RepositorySettings.limits(configuration).call))
    }

    init(
        open: OpenDatabase, configuration: Configuration, logger: Logger, places: [any AnchorPlace],
        limit: Duration = .seconds(60)
    ) {
        self.limit = limit
        self.open = open
        self.configuration = configuration
        self.logger = logger
        self.places = places
    }

    var keyFile: SigningKeyFile {
        SigningKeyFile(path: configuration.path(Self.key) ?? "\(configuration.stateFolder)/audit.key")
    }

    // MARK: Anchoring

    /// The result of anchoring.
    public struct Anchored: Sendable {
        public let anchor: AuditAnchor
        /// Whether a new anchor was made.
        public let isNew: Bool
    }

    /// Anchors the end of the chain in all places, if the chain has grown. Otherwise writes the newest anchor to the
    /// places that lack it.
    ///
    /// - Parameter reason: why the chain is accepted as it is now, even if it contradicts earlier anchors. nil means
    ///   that the chain must continue from its newest anchor.
    /// - Throws: `AuditError`; `PostgresError`.
    @discardableResult
    public func anchor(accepting reason: String? = nil) async throws -> Anchored {
        let keyFile = keyFile
        let key = try await withinLimit(limit, place: keyFile.file.path) { try keyFile.readOrMake() }
        let identity = try await identity()
        var evidence = AuditEvidence(
            await texts(in: Array(places.prefix(1))).lines, key: key, identity: identity, name: open.name)
        // The state folder is local, so it is read first. If the state folder has no valid anchors, for instance
        // because the anchors were made on another machine, all places are read.
        if evidence.valid.isEmpty {
            evidence = AuditEvidence(await texts().lines, key: key, identity: identity, name: open.name)
        }
        let last = evidence.valid.max { ($0.entries, $0.at) < ($1.entries, $1.at) }
        let anchor: AuditAnchor
        if let reason {
            let chain = try await verified([])
            guard chain.isConsistent else {
                throw AuditError.contradicted(
                    database: open.name, reason: "entry \(chain.entries + 1) does not follow from the previous entry")
            }
            let end = chain.end
            anchor = AuditAnchor(
                .accepted, of: identity, name: open.name, entries: end.entries, hash: end.hash, note: reason, key: key)
        } else {
            let end = try await end(after: last, evidence)
            if let last, last.entries == end.entries {
                anchor = last
            } else {
                anchor = AuditAnchor(of: identity, name: open.name, entries: end.entries, hash: end.hash, key: key)
            }
        }
        let isNew = anchor != last
        let outcome = await keep(anchor, backups: try await backups())
        if isNew, outcome.hasOne {
            logger.notice(
                "the audit chain is anchored",
                [
                    LogField("database", open.name), LogField("entries", anchor.entries),
                    LogField("key", anchor.keyID), LogField("anchor", anchor.text),
                ])
        }
        if !outcome.notWritten.isEmpty { throw AuditError.notWritten(outcome.notWritten) }
        return Anchored(anchor: anchor, isNew: isNew)
    }

    /// Anchors the chain after an operation. If the chain cannot be anchored, a warning is logged, and the operation
    /// itself still counts as successful.
    public static func anchor(
        after what: String, _ open: OpenDatabase, _ configuration: Configuration, _ logger: Logger
    ) async {
        do {
            try await AuditWork(open: open, configuration: configuration, logger: logger).anchor()
        } catch {
            logger.warning("the audit chain could not be anchored after \(what)", [LogField("error", error)])
        }
    }

    /// Removes old anchors in every place (see `AnchorPlace.thin`). Logs failures as warnings.
    public func thin() async {
        for place in places {
            do {
                try await withinLimit(limit, place: place.place) { [name = open.name] in try place.thin(name) }
            } catch {
                logger.warning(
                    "old anchors could not be removed", [LogField("place", place.place), LogField("error", error)])
            }
        }
    }

    private func end(after last: AuditAnchor?, _ evidence: AuditEvidence) async throws -> Audit.Position {
        if let remade = evidence.remade.last {
            throw AuditError.contradicted(
                database: open.name,
                reason: "the anchor made at \(remade.at.rfc3339) belongs to another ledger, which the present ledger "
                    + "has replaced"
            )
        }
        let start = last.map { Audit.Position(entries: $0.entries, hash: $0.hash) } ?? .start
        let end = try await open.database.pool.with { try Audit.end(after: start, on: $0) }
        guard let end else {
            throw AuditError.contradicted(
                database: open.name,
                reason: "it does not continue the chain that was anchored up to entry \(start.entries)")
        }
        return end
    }

    /// Returns the number of backups that the ledger records, by place.
    private func backups() async throws -> [String: Int] {
        let records = try await open.database.pool.with { try BackupLedger.records(on: $0) }
        return Dictionary(grouping: records, by: \.place).mapValues(\.count)
    }

    /// Writes an anchor to each place that lacks it. The places are written concurrently, so that none delays another.
    private func keep(
        _ anchor: AuditAnchor, backups: [String: Int]
    ) async -> (hasOne: Bool, notWritten: [(place: String, reason: String)]) {
        let outcomes = await withTaskGroup(of: (String, String?).self) { group in
            for place in places {
                group.addTask { [limit] in
                    do {
                        try await withinLimit(limit, place: place.place) {
                            if try place.has(anchor) { return }
                            if let count = backups[place.place], try place.isEmpty(of: anchor.name) {
                                throw AuditError.emptied(backups: count)
                            }
                            try place.keep(anchor)
                        }
                        return (place.place, nil)
                    } catch {
                        return (place.place, "\(error)")
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        let notWritten = outcomes.compactMap { place, reason in reason.map { (place: place, reason: $0) } }
        return (notWritten.count < outcomes.count, notWritten.sorted { $0.place < $1.place })
    }

    // MARK: Reading

    /// The stored texts of all places that answered, and the errors of the places that could not be read.
    struct Found: Sendable {
        var byPlace: [String: [String]] = [:]
        var failed: [(place: String, reason: String)] = []
        var lines: [String] { byPlace.sorted { $0.key < $1.key }.flatMap(\.value) }
    }

    func texts() async -> Found { await texts(in: places) }

    private func texts(in places: [any AnchorPlace]) async -> Found {
        await withTaskGroup(of: (String, Result<[String], any Error>).self) { group in
            for place in places {
                group.addTask { [limit, name = open.name] in
                    do {
                        let texts = try await withinLimit(limit, place: place.place) { try place.texts(of: name) }
                        return (place.place, .success(texts))
                    } catch {
                        return (place.place, .failure(error))
                    }
                }
            }
            var found = Found()
            for await (place, result) in group {
                switch result {
                case .success(let texts): found.byPlace[place] = texts
                case .failure(let error): found.failed.append((place, "\(error)"))
                }
            }
            found.failed.sort { $0.place < $1.place }
            return found
        }
    }

    func identity() async throws -> AuditIdentity {
        try await open.database.pool.with { connection in
            guard try LedgerSchema.isInstalled(on: connection) else {
                throw AuditError.noLedger(database: open.name)
            }
            return try Audit.identity(on: connection)
        }
    }

    func verified(_ anchors: [AuditAnchor]) async throws -> Audit.Verification {
        try await open.database.pool.with { try Audit.verify(anchors, on: $0) }
    }
}
