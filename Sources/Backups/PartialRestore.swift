import Catalog
import Foundation
import Postgres
import Telemetry

/// Restores some tables or schemas of a backup, and reads only the parts that contain them.
///
/// The tables are first defined in a scratch server, with indexes, constraints, triggers, policies and grants, but
/// without rows. There they are moved to another schema if that is requested. Then, in one transaction, the definitions
/// are copied into the target, and the rows are read from the backup straight into the target (`RowSource`). If columns
/// are masked, the rows are restored in the scratch server, too, and copied from there. Foreign keys and other late
/// constraints are made after that, each in its own transaction. Constraints that the target refuses are left out and
/// reported. The numbers of rows are compared with the manifest.
public struct PartialRestore: Sendable {
    public struct Selection: Sendable {
        /// `schema.table`, or `table` if only one schema has such a table. A table includes all of its partitions, and
        /// all tables that inherit from it.
        public var tables: [String] = []
        public var schemas: [String] = []
        /// The schema that the tables are moved to; nil: their original schemas.
        public var intoSchema: String?

        public init() {}

        public var isEmpty: Bool { tables.isEmpty && schemas.isEmpty }
    }

    private let restorer: Restorer
    private let selection: Selection
    private let server: ScratchServer
    private var manifest: Manifest { restorer.manifest }

    /// - Parameters:
    ///   - folder: the folder for the scratch cluster.
    ///   - beside: the server in which a scratch database is made if no server programs are installed.
    public init(_ restorer: Restorer, _ selection: Selection, folder: String, beside: ConnectionSettings?) {
        self.restorer = restorer
        self.selection = selection
        server = ScratchServer(
            manifest: restorer.manifest, folder: folder, beside: beside, logger: restorer.logger)
    }

    /// Restores the selection into a target.
    ///
    /// - Returns: messages about what was left out, and about what differs from the backup.
    /// - Throws: `BackupError.notInBackup`, `.targetHas`, `.unfinished`, `.targetLacks`, `.needed`, all before anything
    ///   is written; `.outcomeUnknown`; `.constraintsLeft` if the tables were restored, but the restore was not
    ///   completed; `PipelineError`, `PostgresError`, `StorageError`.
    public func restore(
        into target: ConnectionSettings, progress: @escaping Restorer.Progress = { _, _ in }
    ) async throws -> [String] {
        let tools = try await tools(for: target)
        // No free space is required here, because the size of the tables is not known before they are resolved.
        // `ScratchRebuild` checks the free space after that.
        return try await server.with(roomFor: 0) { scratch, isOwn in
            let reader = PartReader(restorer, parts: [], { _, _ in })
            // Statements from the scratch server are run in the target, so no untrusted code may run in the scratch
            // server.
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
            var differences = try await rebuild.differences(rebuilt)
            let dependents =
                selection.intoSchema == nil
                ? try await Dependents(of: rebuilt.tables, scratch: rebuild.scratch) : nil
            differences += try await Parentage(of: rebuilt.tables, scratch: rebuild.scratch).separate(
                for: target, moves: selection.intoSchema != nil)
            let findings = try await deliver(
                try await rebuild.move(rebuilt.tables), rebuilt, rebuild, target, differences, progress)
            if let dependents { await report(dependents, in: target) }
            return findings
        }
    }

    private func report(_ dependents: Dependents, in target: ConnectionSettings) async {
        do {
            let missing = try await dependents.missing(in: target)
            if missing.isEmpty { return }
            restorer.logger.notice(
                "objects that depend on the tables in the backup are missing in the target, and are not created; to "
                    + "create them, restore the backup into another database, and run 'reeve schema diff --mend'",
                [LogField("objects", missing.joined(separator: ", "))])
        } catch {
            restorer.logger.warning(
                "the tables were restored, but it is not known whether objects that depend on them are missing",
                [LogField("error", error)])
        }
    }

    private func deliver(
        _ tables: [FetchedTable], _ rebuilt: ScratchRebuild.Result, _ rebuild: ScratchRebuild,
        _ target: ConnectionSettings, _ differences: [String], _ progress: @escaping Restorer.Progress
    ) async throws -> [String] {
        let late = rebuilt.constraints
        let trust = restorer.settings.trust
        let needed = try await NeededObjects(
            of: tables, besides: selection.intoSchema == nil ? selection.schemas : [], scratch: rebuild.scratch,
            target: target)
        let usedSchemas = try await DeliveryCheck(
            tables: tables, selection: selection, scratch: rebuild.scratch, target: target, trust: trust,
            needed: needed
        ).run()
        if !needed.names.isEmpty {
            restorer.logger.notice(
                "objects that the tables need are created with them",
                [LogField("objects", needed.names.joined(separator: ", "))])
        }
        var record = UnfinishedRestore(
            backup: manifest.id, selection, tables: tables, constraints: late.constraints)
        let delivery = Delivery(
            tables: tables, selection: selection, scratch: rebuild.scratch, target: target, tools: rebuild.tools,
            trust: trust, usedSchemas: usedSchemas, needed: needed,
            neededScript: try await needed.script(rebuild.reader, rebuild.tools, scratch: rebuild.scratch),
            record: record,
            rows: rebuilt.stored.map { RowSource(restorer, rebuild.tools, $0, as: tables) }, progress: progress)
        var findings =
            try await delivery.copy() + differences
            + late.moved.map { "left out, because it names the original schema of the tables: \($0.words)" }
        do {
            record = try await record.read(in: target)
            findings += try await delivery.differences()
            findings += try await InboundKeys(late.inbound).missing(in: target)
        } catch let error as PostgresError {
            throw BackupError.constraintsLeft(missing: record.missingNames, findings: findings, cause: error)
        }
        return try await making(in: target).make(late.constraints, record, findings: findings)
    }

    /// Makes the late constraints that an interrupted restore of the same tables has not made.
    ///
    /// - Parameter record: the record of that restore; the backup must be the one that the record names.
    /// - Returns: messages about the constraints that the target refused.
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
