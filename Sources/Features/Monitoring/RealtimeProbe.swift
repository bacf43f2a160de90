import Kernel
import Postgres
import Reporting

/// Reports whether subscribers hear the changes that the systems announce.
enum RealtimeProbe {
    private static let required = Setting(
        "realtime.required", .boolean, default: "yes",
        "Whether a database is not ready if subscribers do not hear the changes that its systems announce. With `no`, "
            + "/readyz only tells.")

    static let keys = [required.key]

    static let probe = ReadinessProbe("realtime") { open, configuration in
        let state = try await RealtimeState.read(open)
        return ReadinessProbe.Answer(
            isReady: state.problems.isEmpty || !configuration[required], message: state.message)
    }

    /// The check of `reeve doctor`, which also says how to mend what the probe finds.
    static let check = Check(
        "realtime",
        "subscribers hear the changes that the systems announce: notifications arrive, and tables are in "
            + "their publications"
    ) { call in
        guard let open = call.open else { return [] }
        return try await RealtimeState.read(open).problems.map {
            Finding("realtime of \(call.database.name)", .error, $0.message, mend: $0.mend)
        }
    }
}
