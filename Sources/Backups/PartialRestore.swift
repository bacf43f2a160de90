import Catalog
import Foundation
import Postgres

/// Fetches some tables or schemas out of a backup, and reads only the parts that hold them.
///
/// They are put together in a scratch server first, with indexes, constraints, triggers, policies and grants, moved there
/// into another schema where that is wanted, and copied from it into the target in one transaction: all of it or nothing.
/// Foreign keys are made after it, each in a transaction of its own; those that the target cannot have are left out, and
/// said. What has come is compared with what the backup says of it.
public struct PartialRestore: Sendable {
    public struct Selection: Sendable {
        /// As `schema.table` or, where only one schema has it, `table`; a partitioned table with all partitions.
        public var tables: [String] = []
        public var schemas: [String] = []
        /// Where they go; nil: where they were.
        public var intoSchema: String?

        public init() {}

        public var isEmpty: Bool { tables.isEmpty && schemas.isEmpty }
    }

    private let restorer: Restorer
    private let selection: Selection
    private let server: ScratchServer
    private var manifest: Manifest { restorer.manifest }

    /// - Parameters:
    ///   - folder: where the scratch cluster is made.
    ///   - beside: a server that lends a scratch database where no server programs are installed.
    public init(_ restorer: Restorer, _ selection: Selection, folder: String, beside: ConnectionSettings?) {
        self.restorer = restorer
        self.selection = selection
        server = ScratchServer(
            manifest: restorer.manifest, folder: folder, beside: beside, logger: restorer.logger)
    }

    /// - Returns: what was left out, and what has come otherwise than it was, in words.
    /// - Throws: `BackupError.notInBackup`, `.targetHas`, `.targetLacks` before anything is written; `PipelineError`,
    ///   `PostgresError`, `StorageError`.
    public func restore(
        into target: ConnectionSettings, progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> [String] {
        return try await rebuilding(for: target) { rebuild in
            let rebuilt = try await Confinement.during(in: rebuild.scratch) { try await rebuild.run($0, progress) }
            let notes = try await rebuild.differences(rebuilt.tables)
            let delivery = delivery(try await rebuild.move(rebuilt.tables), rebuild, target)
            try await delivery.check()
            try await delivery.copy()
            return try await delivery.make(rebuilt.constraints) + notes + (try await delivery.differences())
        }
    }

    /// Makes what a restore of the same tables has not made of their late constraints, because it was cut off.
    ///
    /// - Returns: the constraints that the target cannot have, in words.
    /// - Throws: `BackupError.notInBackup`, `.targetLacks` before anything is changed; otherwise as `restore`.
    public func makeConstraints(in target: ConnectionSettings) async throws -> [String] {
        try await rebuilding(for: target) { rebuild in
            let defined = try await Confinement.during(in: rebuild.scratch) { try await rebuild.definitions($0) }
            let delivery = delivery(defined.tables, rebuild, target)
            let missing = try await delivery.missing(of: defined.constraints)
            return try await delivery.make(missing)
        }
    }

    /// Lends a scratch server, with the means to put the tables together in it.
    private func rebuilding(
        for target: ConnectionSettings, _ body: @escaping @Sendable (ScratchRebuild) async throws -> [String]
    ) async throws -> [String] {
        if !manifest.recipients.isEmpty, restorer.settings.identity == nil {
            throw BackupError.needsIdentity(id: manifest.id)
        }
        let tools = try await Connection.opened(target.named("reeve restore")) {
            try await BackupTools.dumping(server: manifest.server, beside: $0)
        }
        return try await server.with { scratch, isOwn in
            let reader = PartReader(restorer, parts: [], { _, _ in })
            if isOwn { try await restorer.makeRoles(scratch, reader) }
            return try await body(
                ScratchRebuild(
                    restorer: restorer, selection: selection, scratch: scratch, reader: reader, tools: tools,
                    trust: await server.trust(isOwn: isOwn, otherwise: restorer.settings.trust)))
        }
    }

    private func delivery(
        _ tables: [FetchedTable], _ rebuild: ScratchRebuild, _ target: ConnectionSettings
    ) -> Delivery {
        Delivery(
            tables: tables, selection: selection, scratch: rebuild.scratch, target: target, tools: rebuild.tools,
            trust: restorer.settings.trust)
    }
}
