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
    /// - Throws: `BackupError.notInBackup`, `.targetHas`, `.unfinished`, `.targetLacks` before anything is written;
    ///   `.outcomeUnknown`; `.constraintsLeft` where the tables are there; `PipelineError`, `PostgresError`, `StorageError`.
    public func restore(
        into target: ConnectionSettings, progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> [String] {
        let tools = try await tools(for: target)
        // How much the tables take is known once they are resolved.
        return try await server.with(roomFor: 0) { scratch, isOwn in
            let reader = PartReader(restorer, parts: [], { _, _ in })
            // What the scratch server says is run in the target: nobody may have captured it.
            try await restorer.settings.trust.check(
                try await reader.definitions(tools), for: target, owners: manifest.neededRoles, isThrough: true)
            if isOwn { try await restorer.makeRoles(scratch, reader) }
            let rebuild = ScratchRebuild(
                restorer: restorer, selection: selection, scratch: scratch.restoring, reader: reader, tools: tools,
                trust: restorer.settings.trust
            ) { bytes in
                if isOwn { try await server.checkRoom(for: bytes) }
            }
            let rebuilt = try await Confinement.during(in: rebuild.scratch) { try await rebuild.run($0, progress) }
            let differences = try await rebuild.differences(rebuilt)
            return try await deliver(
                try await rebuild.move(rebuilt.tables), rebuilt.constraints, rebuild, target, differences)
        }
    }

    private func deliver(
        _ tables: [FetchedTable], _ late: LateConstraints, _ rebuild: ScratchRebuild, _ target: ConnectionSettings,
        _ differences: [String]
    ) async throws -> [String] {
        let trust = restorer.settings.trust
        try await DeliveryCheck(
            tables: tables, selection: selection, scratch: rebuild.scratch, target: target, trust: trust
        ).run()
        var record = UnfinishedRestore(
            backup: manifest.id, selection, tables: tables, constraints: late.constraints)
        let delivery = Delivery(
            tables: tables, selection: selection, scratch: rebuild.scratch, target: target, tools: rebuild.tools,
            trust: trust, record: record)
        try await delivery.copy()
        var findings = differences + late.moved.map { "left out, for it names where the tables were: \($0.words)" }
        do {
            record = try await record.read(in: target)
            findings += try await delivery.differences()
            findings += try await InboundKeys(late.inbound).missing(in: target)
        } catch let error as PostgresError {
            throw BackupError.constraintsLeft(missing: record.missingNames, findings: findings, cause: error)
        }
        return try await making(in: target).make(late.constraints, record, findings: findings)
    }

    /// Makes what a restore of the same tables has not made of their late constraints, because it was cut off.
    ///
    /// - Parameter record: that of the restore; the backup must be the one that it names.
    /// - Returns: the constraints that the target refused, in words.
    /// - Throws: `BackupError.constraintsLeft`; `PipelineError`, `PostgresError`, `StorageError`.
    public func makeConstraints(_ record: UnfinishedRestore, in target: ConnectionSettings) async throws -> [String] {
        let tools = try await tools(for: target)
        let reader = PartReader(restorer, parts: [], { _, _ in })
        try await restorer.settings.trust.check(
            try await reader.definitions(tools), for: target, owners: manifest.neededRoles)
        let tables = Set(record.tables.map { FetchedTable(schema: $0.schema, name: $0.name) })
        let late = try await reader.lateConstraints(of: tables, tools)
        let missing = try record.missing(of: late.constraints, object: manifest.prefix)
        return try await making(in: target).make(missing, record)
    }

    private func making(in target: ConnectionSettings) -> ConstraintMaking {
        ConstraintMaking(target: target, patience: restorer.settings.lockPatience)
    }

    /// - Throws: `BackupError.needsIdentity`, `.noPgDump`.
    private func tools(for target: ConnectionSettings) async throws -> BackupTools {
        if !manifest.recipients.isEmpty, restorer.settings.identity == nil {
            throw BackupError.needsIdentity(id: manifest.id)
        }
        return try await Connection.opened(target.restoring) {
            try await BackupTools.dumping(server: manifest.server, beside: $0)
        }
    }
}
