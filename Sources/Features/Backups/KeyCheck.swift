import Backups
import Foundation
import Kernel
import Reporting

/// The check of the keys and recipients that the configuration names.
struct KeyCheck {
    private let configuration: Configuration
    private let given: [String]

    init(_ call: Check.Call) {
        configuration = call.estate.configuration
        given = call.identities
    }

    func findings() -> [Finding] {
        var findings: [Finding] = []
        if configuration[BackupSettings.encryption] == .age, configuration[BackupSettings.recipients].isEmpty {
            findings.append(
                Finding(
                    "backup.recipients", .error, "no recipient is configured, so no backup can be made",
                    mend: "make a key with 'reeve backup key new FILE', and set backup.recipients to what it prints"))
        }
        do { _ = try BackupSettings.keys(configuration) } catch {
            findings.append(
                Finding("backup.signing_key", .error, "\(error)", mend: ErrorReport(error).hint))
        }
        if let path = BackupSettings.identity(configuration) { findings += examine(path) }
        return findings
    }

    /// Examines the configured identity. Whoever reads it reads the backups.
    private func examine(_ path: String) -> [Finding] {
        var status = stat()
        guard stat(path, &status) == 0 else {
            return [
                Finding(
                    "backup.identity", .error, "\(path): \(String(cString: strerror(errno)))",
                    mend: "copy the identity to this file, or do not set backup.identity")
            ]
        }
        guard status.st_mode & 0o077 != 0 else { return [] }
        return [
            Finding(
                "backup.identity", .warning,
                "other users may access \(path) (mode \(String(status.st_mode & 0o777, radix: 8)))",
                mend: "chmod 600 \(path)")
        ]
    }
}
