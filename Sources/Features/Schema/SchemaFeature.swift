import Catalog
import Kernel
import Ledger
import Migrations
import Telemetry

extension Feature {
    /// Schemas: their comparison with migrations and with other schemas, the test of constraints and triggers, and
    /// taking over databases that have their schema already.
    public static let schema = Feature(
        "schema", commands: SchemaCommands.all + [BaselineCommand.baseline],
        settings: ValidationSettings.keys, tasks: [ValidateTask.spec],
        collectors: [DriftMetrics.collector], errors: [SnapshotError.self, ValidationError.self])
}

/// The settings of validation.
enum ValidationSettings {
    private static let scratch = Setting<ScratchPolicy>(
        "validate.scratch", .choice, default: "auto",
        "Whether migrations are replayed into a scratch database on the server. With `auto`, they are replayed if the "
            + "role may create databases; otherwise the committed schema.snapshot files are used.")
    private static let owner = Setting<String?>(
        "validate.owner", .text,
        "The role that owns the objects of migrations, if it is not the role that connects. With `any`, owners are not "
            + "compared.")
    private static let ignore = Setting<[ReasonedPattern]>(
        reasons: "validate.ignore",
        "Differences that are accepted: the beginnings of lines of the report (* matches any characters), each with "
            + "its reason.")

    static let keys = [scratch.key, owner.key, ignore.key]

    static func make(_ configuration: Configuration) -> SchemaValidator.Settings {
        var settings = SchemaValidator.Settings()
        settings.scratch = configuration[scratch]
        settings.cacheFolder = "\(configuration.stateFolder)/schemas"
        settings.owner = configuration[owner]
        settings.trustedRoles = configuration[CoreSettings.trustedRoles]
        settings.ignore = IgnoreList(
            configuration[ignore].map { IgnoreList.Entry(pattern: $0.pattern, reason: $0.reason) })
        return settings
    }
}

/// The metric of schema drift: the number of objects that differ from the migrations, as the last run of the task
/// `validate` found.
enum DriftMetrics {
    private static let objects = MetricDescription(
        "reeve_schema_drift_objects", .gauge, "Objects that differ from the migrations, by kind.",
        labels: ["database", "system", "kind"])

    static let collector = Collector("schema", families: [objects]) { open, sample in
        let (counts, wasChecked) = try await open.database.pool.with(within: .seconds(10)) { connection in
            (
                try FindingLedger.counts(of: ValidateTask.check, on: connection),
                try RunLedger.summaries(on: connection).contains {
                    $0.task == ValidateTask.spec.name && $0.lastSucceeded != nil
                }
            )
        }
        // Every compared system has a series, even without differences, so that an alert can detect a change from 0.
        if wasChecked {
            for system in open.systems { sample.set(objects, 0, open.name, system.name, ObjectKind.table.name) }
        }
        for count in counts {
            sample.set(objects, Double(count.objects), open.name, count.system ?? "", count.objectKind)
        }
    }
}
