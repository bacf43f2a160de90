import Foundation

/// Files that are part of the program. They are next to its sources, or below `share/reeve` in an installation.
public enum ShippedFiles {
    /// Returns the absolute path of a file or folder of Reeve's source tree; nil if that file or folder is not
    /// installed.
    public static func path(_ relative: String) -> String? {
        let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        var place = executable.deletingLastPathComponent()
        for _ in 0..<5 {
            for inner in ["share/reeve/\(relative)", relative] {
                let candidate = place.appendingPathComponent(inner).path
                if FileManager.default.fileExists(atPath: candidate) { return candidate }
            }
            place = place.deletingLastPathComponent()
        }
        return nil
    }
}

/// The systems that are shipped with the program.
public enum ShippedSystems {
    /// The folder that contains the folders of the shipped systems; nil if it is not installed.
    public static let folder: String? = ShippedFiles.path("migrations/platform/system.yaml").map { file in
        URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent().path
    }

    public static var names: [String] {
        guard let folder else { return [] }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/system.yaml") }.sorted()
    }
}
