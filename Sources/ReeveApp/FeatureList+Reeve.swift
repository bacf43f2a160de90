import BackupsFeature
import Kernel
import LedgerFeature
import MaintenanceFeature
import MigrationsFeature
import MonitoringFeature
import ProgramFeature
import SchemaFeature

extension FeatureList {
    /// The features of `reeve`, in the order in which help and references list them. Each feature is a folder in
    /// `Sources/Features` and a line here.
    public static let reeve = FeatureList([
        .service,
        .migrations,
        .schema,
        .backups,
        .ledger,
        .maintenance,
        .monitoring,
        .program,
        .commandLine,
    ])
}
